"""Density and coverage: variants of precision and recall that are robust to outliers."""

from __future__ import annotations

from typing import Annotated, Literal

import click
import torch

import ganzoo
from ganzoo_plugins.evaluators._neighbours import TIE, Neighbourhoods, squared_distances


class DensityCoverage(Neighbourhoods):
    """How densely the fakes lie around the reals, and the share of reals with a fake nearby; higher is better.

    Naeem et al. 2020 (arXiv:2002.09797). Each real has a ball, whose radius is the distance to its k-th nearest other
    real. `density`, from 0: the mean number of balls that a fake lies in, divided by k. It is 1 if fakes and reals have
    the same distribution, and above 1 if the fakes crowd where the reals are dense. `coverage`, 0 to 1: the share of
    balls that contain a fake; it rises with the number of fakes. As in the authors' code, a distance equal to the
    radius is outside, so that the reals themselves have density 1. The ball of a real that is repeated more than k
    times is empty. Distances are computed in float64.
    """

    what = "Density and coverage"
    scores = {"density": ganzoo.Score("higher"), "coverage": ganzoo.Score("higher", high=1.0)}

    def __init__(
        self,
        *,
        extractor: Annotated[Literal["domain", "inception"], "the extractor of the features"] = "domain",
        neighbours: Annotated[
            int, click.IntRange(min=1), "k: a real's radius is the distance to its k-th neighbour"
        ] = 5,
        reals: Annotated[int, click.IntRange(min=2), "use at most this many reals, spread evenly over all"] = 10_000,
    ) -> None:
        super().__init__(extractor, neighbours, reals)

    def compute(self) -> dict[str, float]:
        """Density, at least 0 and unbounded; coverage, from 0 to 1."""
        fakes = self.generated()
        reals, bounds = self.statistics()["reals"], self.statistics()["radii"] * (1 - TIE)
        inside = torch.zeros(len(reals), dtype=torch.long, device=reals.device)
        for _, block in squared_distances(fakes, reals):
            inside += (block < bounds).sum(dim=0)
        return {
            "density": float(inside.sum()) / (self.neighbours * len(fakes)),
            "coverage": float((inside > 0).double().mean()),
        }
