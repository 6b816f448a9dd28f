"""Diversity: the mean similarity of two fakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import click
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

import ganzoo
from ganzoo_plugins.evaluators._features import Sample, require_enough, require_finite

#: height and width at which images are compared: the 11x11 window fits into three scales of it, not of 28x28
SIZE = 64
#: the exponents of the first three of the five scales of Wang et al. 2003, normalised to sum to one
BETAS = tuple(beta / (0.0448 + 0.2856 + 0.3001) for beta in (0.0448, 0.2856, 0.3001))


def mean_similarity(images: Tensor) -> float:
    """Mean MS-SSIM of N // 2 disjoint, fixed pairs of images (N, C, H, W) in [0, 1]."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).to(images.device)
    half = len(images) // 2
    values = []
    for left, right in zip(torch.split(order[:half], 100), torch.split(order[half : 2 * half], 100), strict=True):
        one, other = (
            interpolate(images[indices], size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
            for indices in (left, right)
        )
        values.append(
            multiscale_structural_similarity_index_measure(
                one, other, data_range=1.0, betas=BETAS, normalize="relu", reduction="none"
            )
        )
    return min(1.0, float(torch.cat(values).double().mean()))  # rounding may exceed 1 if all images are equal


class Diversity(ganzoo.Evaluator):
    """Mean MS-SSIM of pairs of fakes: near 1 if all fakes are alike. Lower is better, down to the value of the reals.

    Odena et al. 2017 (arXiv:1610.09585), section 4.2, with the similarity of Wang et al. 2003 ("Multiscale structural
    similarity for image quality assessment") as torchmetrics computes it. They compare 128x128 images of one class over
    five scales. Here the pairs are of any classes, and images are resized to 64x64 (bilinear, with antialiasing) and
    compared over three scales, because the 11x11 window does not fit into more. Negative structure counts as 0.
    `ms-ssim`, 0 to 1. `ms-ssim-excess`, -1 to 1: `ms-ssim` minus the same of the reals. Above 0 the fakes are less
    diverse than the reals; far below 0 they are noise. The score detects a collapse onto few images and little else.
    """

    extractor = "pixels"
    layer = "pixels"
    scores = {"ms-ssim": ganzoo.Score("lower", high=1.0), "ms-ssim-excess": ganzoo.Score("lower", low=-1.0, high=1.0)}
    # fifty pairs
    minimum = 100
    cost = "three seconds a thousand pairs of 64x64"

    def __init__(self, *, pairs: Annotated[int, click.IntRange(min=1), "pairs of each kind, at most"] = 1000) -> None:
        self.pairs = pairs

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state. The features will be images."""
        self.reals, self.fakes = Sample(2 * self.pairs), Sample(2 * self.pairs)
        self.kept: Tensor | None = None

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add images (N, C, H, W) in [0, 1] of one origin. Raises GanzooError if a value is not finite."""
        require_finite(features, origin, self)
        (self.reals if origin == "reals" else self.fakes).add(features)

    def statistics(self) -> dict[str, Tensor]:
        """The mean similarity of the reals, a scalar."""
        if self.kept is None:
            require_enough("Diversity", self.minimum, real=self.reals.seen)
            self.kept = torch.tensor(mean_similarity(self.reals.rows()), dtype=torch.float64)
        return {"similarity": self.kept}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use the result of `statistics` in place of the reals."""
        self.kept = statistics["similarity"]

    def compute(self) -> dict[str, float]:
        """`ms-ssim` from 0 to 1, `ms-ssim-excess` from -1 to 1."""
        require_enough("Diversity", self.minimum, generated=self.fakes.seen)
        similarity = mean_similarity(self.fakes.rows())
        return {"ms-ssim": similarity, "ms-ssim-excess": similarity - float(self.statistics()["similarity"])}
