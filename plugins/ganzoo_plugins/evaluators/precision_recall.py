"""Precision and recall: how many fakes look real, and how many reals the fakes reach."""

from __future__ import annotations

from typing import Annotated, Literal

import click
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._neighbours import TIE, Neighbourhoods, squared_distances, squared_radii


def _covered(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    """Share of `points` within the radius of at least one of `centres`; the border belongs to it."""
    bounds = radii * (1 + TIE)
    within = torch.zeros((), dtype=torch.int64, device=points.device)
    for _, block in squared_distances(points, centres):
        within += (block <= bounds).any(dim=1).sum()
    return int(within) / len(points)


class PrecisionRecall(Neighbourhoods):
    """Improved precision and recall: shares of fakes that look real, of reals that fakes come near; higher is better.

    Kynkäänniemi et al. 2019 (arXiv:1904.06991): every image reaches as far as its k-th nearest neighbour of its own
    kind; precision is the share of fakes within reach of a real, recall the share of reals within reach of a fake.
    They use features of VGG-16 and as many reals as fakes. Both values move with both numbers: compare under the same
    ones. Recall catches dropped classes and repeated images, precision noise. A distance that ties with a reach is
    within; an image that is repeated more than k times reaches only its copies. Distances are float64.
    """

    what = "Precision and recall"
    scores = {"precision": ganzoo.Score("higher", high=1.0), "recall": ganzoo.Score("higher", high=1.0)}

    def __init__(
        self,
        *,
        extractor: Annotated[Literal["domain", "inception"], "whose features"] = "domain",
        neighbours: Annotated[int, click.IntRange(min=1), "an image reaches as far as its so many-th neighbour"] = 3,
        reals: Annotated[int, click.IntRange(min=2), "how many reals at most, spread evenly over all"] = 10_000,
    ) -> None:
        super().__init__(extractor, neighbours, reals)

    def compute(self) -> dict[str, float]:
        """Shares from 0 to 1."""
        fakes = self.generated()
        reals, radii = self.statistics()["reals"], self.statistics()["radii"]
        return {
            "precision": _covered(fakes, reals, radii),
            "recall": _covered(reals, fakes, squared_radii(fakes, self.neighbours)),
        }
