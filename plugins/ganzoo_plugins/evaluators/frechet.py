"""Fréchet distance between features of real and generated images, by torchmetrics.

Heusel et al. 2017, "GANs trained by a two time-scale update rule" (arXiv:1706.08500), equation 6:
|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), with mean m and covariance C of the features of real images, and m' and C' of
those of generated images.
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
    """Sums and products of torchmetrics in float64, and the distance in its symmetric form.

    torchmetrics computes the eigenvalues of C C', which is not symmetric, at every score. Here the square root of the
    covariance of the reals is computed once and cached: the same value within 1e-6, and four times as fast at 2048
    dimensions. With fewer images than dimensions the covariances are rank deficient; the distance is still correct
    (torchmetrics then adds rounding errors of about 1e-5 of the value). The distance is biased upwards, by about
    D/N + D^2/4N for independent dimensions of variance 1 and less for correlated ones: compare only scores of the same
    number of images.
    """

    score: ClassVar[str]
    minimum = 2

    def __init__(self, extractor: str, layer: str) -> None:
        self.extractor = extractor
        self.layer = layer
        self.scores = {self.score: ganzoo.Score("lower")}

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state. The features will be (N, dimensions)."""
        self.metric = FrechetInceptionDistance(feature=Precomputed(dimensions)).to(device)
        self.origin: Tensor | None = None
        self.reals: dict[str, Tensor] = {}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add features (N, D) of one origin. Raises GanzooError if one is not finite."""
        require_finite(features, origin, self)
        features = features.double()
        if self.origin is None:
            # subtracted from all features: this leaves the distance unchanged, and covariances are computed from sums,
            # which lose digits far from the origin
            self.origin = features.mean(dim=0)
        self.metric.update(features - self.origin, real=origin == "reals")

    def statistics(self) -> dict[str, Tensor]:
        """float64 `mean` (D,), `covariance` and its square `root` (D, D), `origin` (D,), and `count` of the reals."""
        if not self.reals:
            metric = self.metric
            count = metric.real_features_num_samples
            require_enough("A Fréchet distance", self.minimum, real=int(count))
            assert self.origin is not None  # noqa: S101  (it has seen reals)
            self.reals = moments(metric.real_features_sum, metric.real_features_cov_sum, count.clone())
            self.reals |= {"root": root(self.reals["covariance"]), "origin": self.origin}
        return self.reals

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use the result of `statistics` in place of the reals."""
        self.reals = dict(statistics)
        self.origin = statistics["origin"]

    def compute(self) -> dict[str, float]:
        """The distance, at least 0: a value that rounding takes below 0 is returned as 0."""
        metric = self.metric
        count = metric.fake_features_num_samples
        require_enough("A Fréchet distance", self.minimum, generated=int(count))
        fakes = moments(metric.fake_features_sum, metric.fake_features_cov_sum, count)
        return {self.score: frechet_distance(self.statistics(), fakes)}


class FID(_Frechet):
    """Fréchet Inception distance: between Inception-v3 features of real and generated images, from 0; lower is better.

    Heusel et al. 2017 (arXiv:1706.08500), equation 6: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), in float64; equal to
    torch-fidelity's value. The protocol determines how images are resized for the network (with or without
    antialiasing), which changes the value by about one per cent.
    """

    score = "fid"
    cost = "2048 dimensions: a second on two cores, and two more where the reals are new"

    def __init__(
        self, *, layer: Annotated[Literal["64", "192", "768", "2048"], "layer of Inception-v3"] = "2048"
    ) -> None:
        super().__init__("inception", layer)


class FIDDomain(_Frechet):
    """Fréchet distance on features of a classifier of the dataset itself, from 0; lower is better. It is not the FID.

    The formula of `fid` on the last hidden layer of the classifier (128 dimensions), after Liu et al. 2018, "An
    improved evaluation framework for generative adversarial networks" (arXiv:1803.07474).
    """

    score = "fid-domain"
    cost = "128 dimensions: nothing beside the features"

    def __init__(self) -> None:
        super().__init__("domain", "pre128")


class _FrechetOfBackbone(_Frechet):
    """The formula of `fid` on the features of a network that was trained without the labels of ImageNet."""

    backbone: ClassVar[str]

    def __init__(self, weights: str) -> None:
        super().__init__(f"{self.backbone}:weights={weights}" if weights else self.backbone, "features")


_WEIGHTS = "file of its weights; empty: the file that the environment variable names"


class FDDINOv2(_FrechetOfBackbone):
    """Fréchet distance on features of DINOv2 ViT-L/14, from 0; lower is better. It agrees better with people than FID.

    Stein et al. 2023, "Exposing flaws of generative model evaluation metrics and their unfair treatment of diffusion
    models" (arXiv:2306.04675). The weights are named by `weights` or by GANZOO_DINOV2_WEIGHTS.
    """

    score = "fd-dinov2"
    backbone = "dinov2"
    cost = "1024 dimensions: half a second beside the features"

    def __init__(self, *, weights: Annotated[str, _WEIGHTS] = "") -> None:
        super().__init__(weights)


class FDCLIP(_FrechetOfBackbone):
    """Fréchet distance on embeddings of CLIP's image network ViT-B/32, from 0; lower is better.

    Kynkäänniemi et al. 2023, "The role of ImageNet classes in Fréchet inception distance" (arXiv:2203.06026). The
    weights are named by `weights` or by GANZOO_CLIP_WEIGHTS.
    """

    score = "fd-clip"
    backbone = "clip"
    cost = "512 dimensions: nothing beside the features"

    def __init__(self, *, weights: Annotated[str, _WEIGHTS] = "") -> None:
        super().__init__(weights)


class FDSwAV(_FrechetOfBackbone):
    """Fréchet distance on features of SwAV's ResNet-50, from 0; lower is better.

    Morozov et al. 2021, "On self-supervised image representations for GAN evaluation" (ICLR). The weights are named by
    `weights` or by GANZOO_SWAV_WEIGHTS.
    """

    score = "fd-swav"
    backbone = "swav"
    cost = "2048 dimensions: a second on two cores, and two more where the reals are new"

    def __init__(self, *, weights: Annotated[str, _WEIGHTS] = "") -> None:
        super().__init__(weights)
