"""Fréchet distance between features of real and generated images, by torchmetrics.

Heusel et al. 2017, "GANs trained by a two time-scale update rule" (arXiv:1706.08500), equation 6:
|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), over the means and covariances of the features.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

import ganzoo


class _Precomputed(nn.Module):
    """The place of torchmetrics' network, where features go in and come out as they are."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) -> the same."""
        return features


class _Frechet(ganzoo.Evaluator):
    """Sums, products and the distance, all in float64.

    At least two images of each kind. With fewer images than dimensions the covariances are of deficient rank and the
    value is biased upwards, as it is by about D/N always: compare only values of the same number of images.
    """

    score: ClassVar[str]

    def __init__(self, extractor: str, layer: str) -> None:
        self.extractor = extractor
        self.layer = layer
        self.directions = {self.score: "lower"}

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Forget everything; features will be (N, dimensions)."""
        self.metric = FrechetInceptionDistance(feature=_Precomputed(dimensions)).to(device)
        self.origin: Tensor | None = None

    def update(self, features: Tensor, real: bool) -> None:
        """Take in features (N, D). Raises GanzooError where one is not finite."""
        bad = int((~features.isfinite()).any(dim=1).sum())
        if bad:
            whose, suspect = ("real", "data") if real else ("generated", "generator")
            raise ganzoo.GanzooError(
                f"{bad} of {len(features)} {whose} images have features that are NaN or infinite ({self.extractor}, "
                f"{self.layer}): check the {suspect} and the extractor's weights."
            )
        features = features.double()
        if self.origin is None:
            # the distance does not see a common shift, but covariances from raw sums lose digits far from the origin
            self.origin = features.mean(dim=0)
        self.metric.update(features - self.origin, real=real)

    def compute(self) -> dict[str, float]:
        """The distance; rounding below 0 (sets that coincide, deficient rank) counts as 0."""
        reals, fakes = int(self.metric.real_features_num_samples), int(self.metric.fake_features_num_samples)
        if min(reals, fakes) < 2:
            raise ganzoo.GanzooError(
                f"A Fréchet distance needs at least 2 real and 2 generated images, not {reals} and {fakes}: "
                "ask for more samples."
            )
        return {self.score: max(0.0, float(self.metric.compute()))}


class FID(_Frechet):
    """Fréchet Inception distance: between Inception-v3 features of real and generated images; lower is better.

    Heusel et al. 2017; the statistics of torchmetrics in float64, equal to those of torch-fidelity.
    """

    score = "fid"

    def __init__(
        self, *, layer: Annotated[Literal["64", "192", "768", "2048"], "layer of Inception-v3"] = "2048"
    ) -> None:
        super().__init__("inception", layer)


class FIDDomain(_Frechet):
    """Fréchet distance on features of a classifier of the dataset itself; lower is better. Never to be called FID.

    After Liu et al. 2018, "An improved evaluation framework for generative adversarial networks" (arXiv:1803.07474).
    """

    score = "fid-domain"

    def __init__(self) -> None:
        super().__init__("domain", "pre128")
