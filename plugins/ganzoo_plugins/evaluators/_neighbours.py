"""Distances between many points in bounded memory, and the nearest of them.

Squared distances are products in float64 of points around their mean. Where the points are one and the same, their
rounding would decide; so what is below TIE of the squared norm is 0, and so is what float32 features cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._features import Sample, require_enough, require_finite

#: points of float32 features that lie nearer than sqrt(TIE) of their distance from the mean are one point; squared
#: distances that differ by less than this share are equal
TIE = 1e-9
#: the square of a few units in the last place of float32, as a share of the squared norm: two passes over one image,
#: in batches of other sizes or on another device, differ by as much
SAME = 1e-12
#: distances in memory at a time: 64 MiB, which the C library maps and gives back; smaller ones would break up its heap
BLOCK = 1 << 23
LAYERS = {"domain": "pre128", "inception": "2048"}


def squared_distances(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some of `points` (N, D) at a time: which, and their float64 (n, M) squared distances to all `others` (M, D)."""
    others = others.double()
    centre = others.mean(dim=0)
    others = others - centre
    norms = others.square().sum(dim=1)
    step = max(1, BLOCK // len(others))
    for start in range(0, len(points), step):
        rows = points[start : start + step].double()
        blur = SAME * rows.square().sum(dim=1, keepdim=True)
        rows = rows - centre
        own = rows.square().sum(dim=1, keepdim=True)
        distances = torch.addmm(norms, rows, others.T, alpha=-2).add_(own)
        yield slice(start, start + step), distances.masked_fill_(distances <= torch.maximum(TIE * own, blur), 0.0)


def squared_radii(points: Tensor, neighbours: int) -> Tensor:
    """(N,) squared distance of each point to its `neighbours`-th nearest other one; a twin is at distance 0."""
    radii = points.new_empty(len(points), dtype=torch.float64)
    for where, block in squared_distances(points, points):
        radii[where] = block.topk(neighbours + 1, largest=False).values[:, -1]
    return radii


def nearest(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) squared distance of each point to the nearest of `others`, and (N,) which one that is."""
    distances = points.new_empty(len(points), dtype=torch.float64)
    indices = points.new_empty(len(points), dtype=torch.int64)
    for where, block in squared_distances(points, others):
        torch.min(block, dim=1, out=(distances[where], indices[where]))
    return distances, indices


class Neighbourhoods(ganzoo.Evaluator):
    """What the evaluators share in which a real reaches as far as its k-th nearest other real."""

    cost = "distances of all pairs: seconds for 10,000 images at 128 dimensions, a minute at 2048 on two cores"
    #: what an error calls it
    what: ClassVar[str]

    def __init__(self, extractor: Literal["domain", "inception"], neighbours: int, reals: int) -> None:
        self.extractor = extractor
        self.layer = LAYERS[extractor]
        self.neighbours, self.minimum, self.limit = neighbours, neighbours + 1, reals

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Forget everything; features will be (N, dimensions)."""
        self.device = device
        self.reals, self.fakes = Sample(self.limit), Sample()
        self.kept: dict[str, Tensor] = {}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Take in features (N, D). Raises GanzooError where one is not finite."""
        require_finite(features, origin, self)
        (self.reals if origin == "reals" else self.fakes).add(features)

    def statistics(self) -> dict[str, Tensor]:
        """The features of the reals that are compared with, and the square of how far each reaches."""
        if not self.kept:
            require_enough(self.what, self.minimum, real=len(self.reals))
            reals = self.reals.rows()
            self.kept = {"reals": reals, "radii": squared_radii(reals, self.neighbours)}
        return self.kept

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Take up what `statistics` gave, in place of the reals."""
        self.kept = {name: value.to(self.device) for name, value in statistics.items()}

    def generated(self) -> Tensor:
        """The features of the fakes (N, D)."""
        require_enough(self.what, self.minimum, generated=len(self.fakes))
        return self.fakes.rows()
