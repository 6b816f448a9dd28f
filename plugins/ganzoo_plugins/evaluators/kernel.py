"""Kernel distance between features of real and generated images, by torchmetrics.

Binkowski et al. 2018, "Demystifying MMD GANs" (arXiv:1801.01401): the squared maximum mean discrepancy under the kernel
(x.y / D + 1)^3, unbiased, the mean over random subsets.
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

Subsets = Annotated[int, click.IntRange(min=1), "how many random subsets the value is the mean of"]
SubsetSize = Annotated[int, click.IntRange(min=2), "images of each kind in a subset"]
Reals = Annotated[int, click.IntRange(min=2), "how many reals at most, spread evenly over all"]


class _Kernel(ganzoo.Evaluator):
    """torchmetrics' distance over float64 features, with the same subsets every time.

    The reals beyond `reals` are left out: the estimate is unbiased for any number, and all of them would be kept in
    memory. For the same reason a value may fall below 0. torchmetrics' standard deviation over subsets is not reported:
    it is that of a subset, not of the score.
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
        """Forget everything; features will be (N, dimensions)."""
        self.dimensions, self.device = dimensions, device
        self.reals, self.fakes = Sample(self.limit), Sample()
        self.kept: Tensor | None = None

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Take in features (N, D). Raises GanzooError where one is not finite."""
        require_finite(features, origin, self)
        (self.reals if origin == "reals" else self.fakes).add(features)

    def statistics(self) -> dict[str, Tensor]:
        """The features of the reals that are compared with."""
        if self.kept is None:
            require_enough("A kernel distance", self.minimum, real=len(self.reals))
            self.kept = self.reals.rows()
        return {"reals": self.kept}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Take up what `statistics` gave, in place of the reals."""
        self.kept = statistics["reals"].to(self.device)

    def compute(self) -> dict[str, float]:
        """The mean over subsets; it may be a little below 0, as what is unbiased must."""
        require_enough("A kernel distance", self.minimum, generated=len(self.fakes))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it keeps all features; so it must
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

    Binkowski et al. 2018; by torchmetrics, in float64, over the same subsets every time.
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
    """Kernel distance on features of a classifier of the dataset itself; lower is better. Never to be called KID.

    The kernel of Binkowski et al. 2018 (arXiv:1801.01401), who also score MNIST on features of a LeNet.
    """

    score = "kid-domain"

    def __init__(self, *, subsets: Subsets = 100, subset_size: SubsetSize = 1000, reals: Reals = 10_000) -> None:
        super().__init__("domain", "pre128", subsets, subset_size, reals)
