"""Fréchet distance between features of real and generated images, by torchmetrics.

Heusel et al. 2017, "GANs trained by a two time-scale update rule" (arXiv:1706.08500), equation 6:
|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), over the means and covariances of the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

import ganzoo
from ganzoo_plugins.evaluators._features import Precomputed, require_enough, require_finite
from ganzoo_plugins.evaluators._gaussians import frechet_distance, moments, root


class _Frechet(ganzoo.Evaluator):
    """torchmetrics' sums and products in float64; the distance in its symmetric form.

    torchmetrics solves for the eigenvalues of C C', which is not symmetric, and does so for every score. The square
    root of the covariance of the reals is kept instead: equal to its value within 1e-6, and four times as fast at 2048
    dimensions. With fewer images than dimensions the covariances are of deficient rank: the distance stands
    (torchmetrics then adds up rounding, some 1e-5 of the value). It is always biased upwards, by an amount that falls
    as 1/N: about D/N + D^2/4N where the dimensions are independent and of variance 1, less where they are correlated.
    Compare only values of the same number of images.
    """

    score: ClassVar[str]
    minimum = 2

    def __init__(self, extractor: str, layer: str) -> None:
        self.extractor = extractor
        self.layer = layer
        self.scores = {self.score: ganzoo.Score("lower")}

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Forget everything; features will be (N, dimensions)."""
        self.metric = FrechetInceptionDistance(feature=Precomputed(dimensions)).to(device)
        self.origin: Tensor | None = None
        self.reals: dict[str, Tensor] = {}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Take in features (N, D). Raises GanzooError where one is not finite."""
        require_finite(features, origin, self)
        features = features.double()
        if self.origin is None:
            # the distance does not see a common shift, but covariances from raw sums lose digits far from the origin
            self.origin = features.mean(dim=0)
        self.metric.update(features - self.origin, real=origin == "reals")

    def statistics(self) -> dict[str, Tensor]:
        """Mean, covariance and its square root in float64, around `origin`, and the count."""
        if not self.reals:
            metric = self.metric
            count = metric.real_features_num_samples
            require_enough("A Fréchet distance", self.minimum, real=int(count))
            assert self.origin is not None  # noqa: S101  (it has seen reals)
            self.reals = moments(metric.real_features_sum, metric.real_features_cov_sum, count.clone())
            self.reals |= {"root": root(self.reals["covariance"]), "origin": self.origin}
        return self.reals

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Take up what `statistics` gave, in place of the reals."""
        self.reals = dict(statistics)
        self.origin = statistics["origin"]

    def compute(self) -> dict[str, float]:
        """The distance; rounding below 0 (sets that coincide, deficient rank) counts as 0."""
        metric = self.metric
        count = metric.fake_features_num_samples
        require_enough("A Fréchet distance", self.minimum, generated=int(count))
        fakes = moments(metric.fake_features_sum, metric.fake_features_cov_sum, count)
        return {self.score: frechet_distance(self.statistics(), fakes)}


class FID(_Frechet):
    """Fréchet Inception distance: between Inception-v3 features of real and generated images; lower is better.

    Heusel et al. 2017; the statistics of torchmetrics in float64, equal to those of torch-fidelity. How images reach
    the network (the resize, with or without antialiasing) is the protocol's to say and changes the value by a percent.
    """

    score = "fid"
    cost = "2048 dimensions: a second on two cores, and two more where the reals are new"

    def __init__(
        self, *, layer: Annotated[Literal["64", "192", "768", "2048"], "layer of Inception-v3"] = "2048"
    ) -> None:
        super().__init__("inception", layer)


class FIDDomain(_Frechet):
    """Fréchet distance on features of a classifier of the dataset itself; lower is better. Never to be called FID.

    After Liu et al. 2018, "An improved evaluation framework for generative adversarial networks" (arXiv:1803.07474).
    """

    score = "fid-domain"
    cost = "128 dimensions: nothing beside the features"

    def __init__(self) -> None:
        super().__init__("domain", "pre128")
