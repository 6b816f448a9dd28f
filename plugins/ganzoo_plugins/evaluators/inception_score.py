"""Inception score: how certain a classifier is of each image, and how diverse the classes are, by torchmetrics.

Salimans et al. 2016, "Improved techniques for training GANs" (arXiv:1606.03498): exp(E_x KL(p(y|x) || p(y))), where
p(y) is the mean of p(y|x); the score is the mean of this over splits of the fakes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, ClassVar

import click
import torch
from torch import Tensor
from torchmetrics.image.inception import InceptionScore as Metric

import ganzoo
from ganzoo_plugins.evaluators._features import Precomputed, Sample, fixed_draws, require_enough, require_finite

Splits = Annotated[int, click.IntRange(min=1), "the value is the mean over this many equal parts of the fakes"]
#: the least number of images in a part: with fewer, the value depends mostly on their number
PART = 10
#: lower bound of log probabilities; its exponential is near the smallest normal float64
SMALLEST = -700.0


class _Score(ganzoo.Evaluator):
    """The score of torchmetrics from float64 logits, with a fixed shuffle. The reals are not used."""

    score: ClassVar[str]
    cost = "nothing beside the logits"

    def __init__(self, extractor: str, layer: str, splits: int) -> None:
        self.extractor = extractor
        self.layer = layer
        self.scores = {self.score: ganzoo.Score("higher", low=1.0)}
        self.splits, self.minimum = splits, PART * splits

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state. The features will be logits (N, dimensions)."""
        self.dimensions, self.device = dimensions, device
        self.fakes = Sample()

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add logits (N, K) of one origin. Raises GanzooError if one is not finite."""
        require_finite(features, origin, self)
        if origin == "fakes":
            self.fakes.add(features)

    def statistics(self) -> dict[str, Tensor]:
        """Empty: the score does not depend on reals."""
        return {}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Do nothing: there are no statistics."""

    def compute(self) -> dict[str, float]:
        """The score, from 1 (one class only, or the classifier uncertain of every image) to the number of classes."""
        require_enough(f"An inception score of splits={self.splits}", self.minimum, generated=len(self.fakes))
        # parts of equal size: torchmetrics would make an additional, small part of the remaining images
        fakes = self.fakes.rows()[: len(self.fakes) // self.splits * self.splits]
        # a class of probability 0 would make 0 x infinity
        logits = fakes.double().log_softmax(dim=1).clamp(min=SMALLEST)
        with warnings.catch_warnings(), fixed_draws():
            warnings.simplefilter("ignore", UserWarning)  # about keeping all features, and one split
            metric = Metric(Precomputed(self.dimensions), splits=self.splits).to(self.device)
            metric.update(logits)
            mean, _ = metric.compute()
        return {self.score: max(1.0, float(mean))}  # rounding may fall below 1 if all images are equal


class InceptionScore(_Score):
    """Inception score by Inception-v3: is each image surely of a class, and do all classes occur? Higher is better.

    Salimans et al. 2016 (arXiv:1606.03498): exp(E_x KL(p(y|x) || p(y))), the mean over splits, from 1 to 1008; by
    torchmetrics, on the 1008 logits without bias, as most implementations do. The classes are those of ImageNet: on
    digits and garments the value means little.
    """

    score = "inception-score"

    def __init__(self, *, splits: Splits = 10) -> None:
        super().__init__("inception", "logits_unbiased", splits)


class InceptionScoreDomain(_Score):
    """Inception score by a classifier of the dataset itself, from 1 to the number of classes; higher is better.

    The formula of `inception-score`. The certainty of the classifier depends on how it was trained: real MNIST scores
    7.3 with label smoothing and 9.9 without. Compare with the value of real images under the same weights, never with a
    value of another classifier.
    """

    score = "inception-score-domain"

    def __init__(self, *, splits: Splits = 10) -> None:
        super().__init__("domain", "logits", splits)
