"""Sliced Wasserstein distance between the pixels of real and generated images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import click
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._features import Sample, require_enough, require_finite


def quantiles(ordered: Tensor, count: int) -> Tensor:
    """(count, P) quantiles of sorted columns (N, P), at the middles of `count` equal parts of 0..1."""
    places = (torch.arange(count, device=ordered.device) * 2 + 1) * len(ordered) // (2 * count)
    return ordered[places]


class SlicedWasserstein(ganzoo.Evaluator):
    """Sliced Wasserstein-2 distance between pixels in [0, 1] of real and generated images, from 0; lower is better.

    sqrt(mean over random directions u and quantiles t of (F_u^-1(t) - G_u^-1(t))^2), where F_u and G_u are the
    distributions of the reals and fakes projected on u, in float64. Rabin et al. 2011, "Wasserstein barycenter and its
    application to texture mixing"; Bonneel et al. 2015. The pixels are used as they are, not patches of Laplacian
    pyramids as in Karras et al. 2018 (arXiv:1710.10196): the score detects where ink lies and how images vary, and
    little of sharpness or content. Neither labels nor weights are needed. The directions are fixed. Sets of different
    sizes are compared at the quantiles of the larger one. Two sets of one distribution have a distance that falls as
    1/sqrt(N): compare only scores of the same number of images.
    """

    extractor = "pixels"
    layer = "pixels"
    scores = {"sliced-wasserstein": ganzoo.Score("lower")}
    cost = "a product with the directions and one sort a direction: seconds for 10,000 images of 28x28"

    def __init__(
        self,
        *,
        directions: Annotated[int, click.IntRange(min=1), "number of random directions"] = 256,
        reals: Annotated[int, click.IntRange(min=2), "use at most this many reals, spread evenly over all"] = 10_000,
    ) -> None:
        self.count, self.limit = directions, reals

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state. The features will be images of `dimensions` pixel values."""
        drawn = torch.randn(dimensions, self.count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        self.directions = (drawn / drawn.norm(dim=0)).to(device)
        self.reals, self.fakes = Sample(self.limit), Sample()
        self.kept: Tensor | None = None

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add images (N, C, H, W) in [0, 1] of one origin; only their projections (N, directions) are kept."""
        require_finite(features, origin, self)
        (self.reals if origin == "reals" else self.fakes).add(features.flatten(1).double() @ self.directions)

    def statistics(self) -> dict[str, Tensor]:
        """`reals` (N, directions): the projections of the reals, sorted along each direction."""
        if self.kept is None:
            require_enough("A sliced Wasserstein distance", self.minimum, real=len(self.reals))
            self.kept = self.reals.rows().sort(dim=0).values
        return {"reals": self.kept}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use the result of `statistics` in place of the reals."""
        self.kept = statistics["reals"].to(self.directions.device)

    def compute(self) -> dict[str, float]:
        """The distance, from 0. Two sets that differ by a constant image d are |d| / sqrt(number of pixels) apart."""
        require_enough("A sliced Wasserstein distance", self.minimum, generated=len(self.fakes))
        reals, fakes = self.statistics()["reals"], self.fakes.rows().sort(dim=0).values
        count = max(len(reals), len(fakes))
        squares = (quantiles(reals, count) - quantiles(fakes, count)).square()
        return {"sliced-wasserstein": float(squares.mean().sqrt())}
