"""Density and coverage: precision and recall that no outlier can spoil."""

from __future__ import annotations

from typing import Annotated, Literal

import click
import torch

import ganzoo
from ganzoo_plugins.evaluators._neighbours import TIE, Neighbourhoods, squared_distances


class DensityCoverage(Neighbourhoods):
    """How densely fakes lie around the reals, and the share of reals with a fake beside them; higher is better.

    Naeem et al. 2020 (arXiv:2002.09797): only reals reach, each as far as its k-th nearest other real. Density is the
    mean number of reals within whose reach a fake is, divided by k: 1 for the reals' own distribution, and above 1
    where fakes crowd where reals are dense. Coverage is the share of reals within whose reach there is a fake; it
    rises with the number of fakes. As in the authors' code a distance that ties with a reach is outside, so that the
    reals themselves have density 1; a real that is repeated more than k times reaches nothing. Distances are float64.
    """

    what = "Density and coverage"
    scores = {"density": ganzoo.Score("higher"), "coverage": ganzoo.Score("higher", high=1.0)}

    def __init__(
        self,
        *,
        extractor: Annotated[Literal["domain", "inception"], "whose features"] = "domain",
        neighbours: Annotated[int, click.IntRange(min=1), "a real reaches as far as its so many-th neighbour"] = 5,
        reals: Annotated[int, click.IntRange(min=2), "how many reals at most, spread evenly over all"] = 10_000,
    ) -> None:
        super().__init__(extractor, neighbours, reals)

    def compute(self) -> dict[str, float]:
        """Density from 0, without a bound; coverage from 0 to 1."""
        fakes = self.generated()
        reals, bounds = self.statistics()["reals"], self.statistics()["radii"] * (1 - TIE)
        inside = torch.zeros(len(reals), dtype=torch.long, device=reals.device)
        for _, block in squared_distances(fakes, reals):
            inside += (block < bounds).sum(dim=0)
        return {
            "density": float(inside.sum()) / (self.neighbours * len(fakes)),
            "coverage": float((inside > 0).double().mean()),
        }
