"""Kernel distance between features of real and generated images, by torchmetrics.

Binkowski et al. 2018, "Demystifying MMD GANs" (arXiv:1801.01401): the unbiased estimate of the squared maximum mean
discrepancy, E k(x, x') + E k(y, y') - 2 E k(x, y) with the kernel k(x, y) = (x.y / D + 1)^3, averaged over random
subsets of the features of reals x and fakes y.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import click
import torch
from torch import Tensor
from torchmetrics.image.kid import KernelInceptionDistance

import ganzoo
from ganzoo_plugins.evaluators._features import Precomputed, Sample, fixed_draws, require_enough, require_finite

Subsets = Annotated[int, click.IntRange(min=1), "the value is the mean over this many random subsets"]
SubsetSize = Annotated[int, click.IntRange(min=2), "number of reals, and of fakes, in a subset"]
Reals = Annotated[int, click.IntRange(min=2), "use at most this many reals, spread evenly over all"]


class _Kernel(ganzoo.Evaluator):
    """The distance of torchmetrics from float64 features, with fixed subsets.

    At most `reals` reals are used, because all of them are kept in memory; the estimate is unbiased for any number.
    Being unbiased, a value may fall below 0. The standard deviation of torchmetrics over subsets is not reported: it is
    that of a subset, not of the score.
    """

    score: ClassVar[str]
    cost = "products of subsets, in float64: a second at 128 dimensions, half a minute at 2048 on two cores"

    def __init__(self, extractor: str, layer: str, subsets: int, subset_size: int, reals: int) -> None:
        if reals < subset_size:
            raise ganzoo.UsageError(f"reals={reals} is fewer than one subset: give at least subset_size={subset_size}.")
        self.extractor = extractor
        self.layer = layer
        self.scores = {self.score: ganzoo.Score("lower", low=-math.inf)}
        self.subsets, self.minimum, self.limit = subsets, subset_size, reals

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state. The features will be (N, dimensions)."""
        self.dimensions, self.device = dimensions, device
        self.reals, self.fakes = Sample(self.limit), Sample()
        self.kept: Tensor | None = None

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add features (N, D) of one origin. Raises GanzooError if one is not finite."""
        require_finite(features, origin, self)
        (self.reals if origin == "reals" else self.fakes).add(features)

    def statistics(self) -> dict[str, Tensor]:
        """The features (N, D) of the reals that are used."""
        if self.kept is None:
            require_enough("A kernel distance", self.minimum, real=len(self.reals))
            self.kept = self.reals.rows()
        return {"reals": self.kept}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use the result of `statistics` in place of the reals."""
        self.kept = statistics["reals"].to(self.device)

    def compute(self) -> dict[str, float]:
        """The mean over subsets; it may be slightly below 0 because it is unbiased."""
        require_enough("A kernel distance", self.minimum, generated=len(self.fakes))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about keeping all features, which is intended
            metric = KernelInceptionDistance(
                Precomputed(self.dimensions), subsets=self.subsets, subset_size=self.minimum
            ).to(self.device)
        # float64: the distance is a small difference of large sums
        metric.update(self.statistics()["reals"].double(), real=True)
        metric.update(self.fakes.rows().double(), real=False)
        with fixed_draws():
            mean, _ = metric.compute()
        return {self.score: float(mean)}


class KID(_Kernel):
    """Kernel Inception distance: between Inception-v3 features, unbiased for any number of images; lower is better.

    Binkowski et al. 2018 (arXiv:1801.01401): the squared maximum mean discrepancy with the kernel
    (x.y / D + 1)^3, by torchmetrics in float64 with fixed subsets. The value may be slightly below 0.
    """

    score = "kid"

    def __init__(
        self,
        *,
        layer: Annotated[Literal["64", "192", "768", "2048"], "layer of Inception-v3"] = "2048",
        subsets: Subsets = 100,
        subset_size: SubsetSize = 1000,
        reals: Reals = 10_000,
    ) -> None:
        super().__init__("inception", layer, subsets, subset_size, reals)


class KIDDomain(_Kernel):
    """Kernel distance on features of a classifier of the dataset itself; lower is better. It is not the KID.

    The formula of `kid` on the last hidden layer of the classifier (128 dimensions). Binkowski et al. 2018
    (arXiv:1801.01401) also score MNIST on features of a LeNet. The value may be slightly below 0.
    """

    score = "kid-domain"

    def __init__(self, *, subsets: Subsets = 100, subset_size: SubsetSize = 1000, reals: Reals = 10_000) -> None:
        super().__init__("domain", "pre128", subsets, subset_size, reals)
