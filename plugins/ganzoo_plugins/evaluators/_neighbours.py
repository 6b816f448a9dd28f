"""Distances between many points, and nearest neighbours, in bounded memory.

Squared distances are computed in float64 from matrix products of centred points. The distance of equal points
is then a rounding error, so distances below a share of the squared norm (TIE or SAME) are set to 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._features import Sample, require_enough, require_finite

#: two points whose squared distance is at most this share of their squared distance from the mean are one point;
#: squared distances that differ by less than this share are equal
TIE = 1e-9
#: the square of a few float32 rounding errors, as a share of the squared norm: the features of one image differ by this
#: much between batches of different sizes, or between devices
SAME = 1e-12
#: distances in memory at a time: 64 MiB. The C library returns such a block to the system; smaller blocks
#: would fragment its heap
BLOCK = 1 << 23
LAYERS = {"domain": "pre128", "inception": "2048"}


def squared_distances(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """float64 squared distances (n, M) of slices of `points` (N, D) to all `others` (M, D), with the slices."""
    others = others.double()
    centre = others.mean(dim=0)
    others = others - centre
    norms = others.square().sum(dim=1)
    step = max(1, BLOCK // len(others))
    for start in range(0, len(points), step):
        rows = points[start : start + step].double()
        precision = SAME * rows.square().sum(dim=1, keepdim=True)
        rows = rows - centre
        own = rows.square().sum(dim=1, keepdim=True)
        distances = torch.addmm(norms, rows, others.T, alpha=-2).add_(own)
        yield slice(start, start + step), distances.masked_fill_(distances <= torch.maximum(TIE * own, precision), 0.0)


def squared_radii(points: Tensor, neighbours: int) -> Tensor:
    """(N,) squared distance of each point to its `neighbours`-th nearest other point; that of an equal point is 0."""
    radii = points.new_empty(len(points), dtype=torch.float64)
    for where, block in squared_distances(points, points):
        radii[where] = block.topk(neighbours + 1, largest=False).values[:, -1]
    return radii


def nearest(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) squared distance of each point to the nearest of `others`, and (N,) the index of that one."""
    distances = points.new_empty(len(points), dtype=torch.float64)
    indices = points.new_empty(len(points), dtype=torch.int64)
    for where, block in squared_distances(points, others):
        torch.min(block, dim=1, out=(distances[where], indices[where]))
    return distances, indices


class Neighbourhoods(ganzoo.Evaluator):
    """Base of the evaluators in which each real has a ball with the distance to its k-th nearest real as radius."""

    cost = "distances of all pairs: seconds for 10,000 images at 128 dimensions, a minute at 2048 on two cores"
    #: the name of the scores in error messages
    what: ClassVar[str]

    def __init__(self, extractor: Literal["domain", "inception"], neighbours: int, reals: int) -> None:
        self.extractor = extractor
        self.layer = LAYERS[extractor]
        self.neighbours, self.minimum, self.limit = neighbours, neighbours + 1, reals

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state. The features will be (N, dimensions)."""
        self.device = device
        self.reals, self.fakes = Sample(self.limit), Sample()
        self.kept: dict[str, Tensor] = {}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add features (N, D) of one origin. Raises GanzooError if one is not finite."""
        require_finite(features, origin, self)
        (self.reals if origin == "reals" else self.fakes).add(features)

    def statistics(self) -> dict[str, Tensor]:
        """`reals` (N, D), the features of the reals that are used, and `radii` (N,), the squares of their radii."""
        if not self.kept:
            require_enough(self.what, self.minimum, real=len(self.reals))
            reals = self.reals.rows()
            self.kept = {"reals": reals, "radii": squared_radii(reals, self.neighbours)}
        return self.kept

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use the result of `statistics` in place of the reals."""
        self.kept = {name: value.to(self.device) for name, value in statistics.items()}

    def generated(self) -> Tensor:
        """The features of the fakes (N, D)."""
        require_enough(self.what, self.minimum, generated=len(self.fakes))
        return self.fakes.rows()
