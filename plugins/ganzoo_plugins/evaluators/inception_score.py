"""Inception score: how sure a classifier is of each image, and how unlike the images are, by torchmetrics.

Salimans et al. 2016, "Improved techniques for training GANs" (arXiv:1606.03498): exp(E KL(p(y|x) || p(y))), the mean
over splits.
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

Splits = Annotated[int, click.IntRange(min=1), "the value is the mean over so many parts of the images"]
#: fewer images than this in a part and its value says how few they are
PART = 10
#: float64 has no smaller probabilities than exp of this
SMALLEST = -700.0


class _Score(ganzoo.Evaluator):
    """torchmetrics' score over float64 logits, its shuffle the same every time. It looks at no reals."""

    score: ClassVar[str]
    cost = "nothing beside the logits"

    def __init__(self, extractor: str, layer: str, splits: int) -> None:
        self.extractor = extractor
        self.layer = layer
        self.scores = {self.score: ganzoo.Score("higher", low=1.0)}
        self.splits, self.minimum = splits, PART * splits

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Forget everything; features will be logits (N, dimensions)."""
        self.dimensions, self.device = dimensions, device
        self.fakes = Sample()

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Take in logits (N, K). Raises GanzooError where one is not finite."""
        require_finite(features, origin, self)
        if origin == "fakes":
            self.fakes.add(features)

    def statistics(self) -> dict[str, Tensor]:
        """Nothing: the score does not look at reals."""
        return {}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Take up what `statistics` gave."""

    def compute(self) -> dict[str, float]:
        """From 1 (all alike, or the classifier unsure of all) to the number of classes."""
        require_enough(f"An inception score of splits={self.splits}", self.minimum, generated=len(self.fakes))
        # parts of one size: torchmetrics would leave what remains to the last, which may be two images
        fakes = self.fakes.rows()[: len(self.fakes) // self.splits * self.splits]
        # a class that no image can be of would make 0 x infinity
        logits = fakes.double().log_softmax(dim=1).clamp(min=SMALLEST)
        with warnings.catch_warnings(), fixed_draws():
            warnings.simplefilter("ignore", UserWarning)  # that it keeps all features; that one split has no deviation
            metric = Metric(Precomputed(self.dimensions), splits=self.splits).to(self.device)
            metric.update(logits)
            mean, _ = metric.compute()
        return {self.score: max(1.0, float(mean))}  # rounding takes it below where all are alike


class InceptionScore(_Score):
    """Inception score: sure of each image and unlike between them, by Inception-v3; higher is better.

    Salimans et al. 2016; by torchmetrics on the logits without bias, as everybody computes it. The classes are
    ImageNet's: on digits and garments the value means little.
    """

    score = "inception-score"

    def __init__(self, *, splits: Splits = 10) -> None:
        super().__init__("inception", "logits_unbiased", splits)


class InceptionScoreDomain(_Score):
    """Inception score by a classifier of the dataset itself; higher is better, at most the number of classes.

    How sure the classifier is follows from how it was trained: with label smoothing real MNIST scores 7.3, without 9.9.
    Compare with the value of real images under the same weights, never with that of another classifier.
    """

    score = "inception-score-domain"

    def __init__(self, *, splits: Splits = 10) -> None:
        super().__init__("domain", "logits", splits)
