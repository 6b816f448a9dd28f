"""Precision and recall: the share of fakes that look real, and the share of reals that the fakes cover."""

from __future__ import annotations

from typing import Annotated, Literal

import click
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._neighbours import TIE, Neighbourhoods, squared_distances, squared_radii


def _covered(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    """Share of `points` (N, D) within the squared radius (M,) of at least one of `centres` (M, D), border included."""
    bounds = radii * (1 + TIE)
    within = torch.zeros((), dtype=torch.int64, device=points.device)
    for _, block in squared_distances(points, centres):
        within += (block <= bounds).any(dim=1).sum()
    return int(within) / len(points)


class PrecisionRecall(Neighbourhoods):
    """Improved precision and recall: the share of fakes near a real, and of reals near a fake; higher is better.

    Kynkäänniemi et al. 2019 (arXiv:1904.06991), equations 1 and 2. Each image has a ball, whose radius is the distance
    to its k-th nearest neighbour among the images of the same kind. `precision`, 0 to 1: the share of fakes inside the
    ball of a real. `recall`, 0 to 1: the share of reals inside the ball of a fake. The authors use features of VGG-16
    and as many reals as fakes. Both values depend on the numbers of reals and fakes: compare only equal numbers. Recall
    detects missing classes and repeated images, precision detects noise. A distance equal to the radius is inside; the
    ball of an image that is repeated more than k times contains only its copies. Distances are computed in float64.
    """

    what = "Precision and recall"
    scores = {"precision": ganzoo.Score("higher", high=1.0), "recall": ganzoo.Score("higher", high=1.0)}

    def __init__(
        self,
        *,
        extractor: Annotated[Literal["domain", "inception"], "the extractor of the features"] = "domain",
        neighbours: Annotated[
            int, click.IntRange(min=1), "k: an image's radius is the distance to its k-th neighbour"
        ] = 3,
        reals: Annotated[int, click.IntRange(min=2), "use at most this many reals, spread evenly over all"] = 10_000,
    ) -> None:
        super().__init__(extractor, neighbours, reals)

    def compute(self) -> dict[str, float]:
        """Both shares, from 0 to 1."""
        fakes = self.generated()
        reals, radii = self.statistics()["reals"], self.statistics()["radii"]
        return {
            "precision": _covered(fakes, reals, radii),
            "recall": _covered(reals, fakes, squared_radii(fakes, self.neighbours)),
        }
