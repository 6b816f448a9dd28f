"""Class accuracy: whether a conditional generator draws what it is asked for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._features import require_enough, require_finite


class ClassAccuracy(ganzoo.Evaluator):
    """Share of fakes that are of the class they were asked for, in the eyes of the domain classifier; higher is better.

    As Odena et al. 2017 (arXiv:1610.09585) count what an AC-GAN's images are good for, with Inception's classes. For
    conditional architectures, and others are refused: they would score 1 / classes, whatever their images are. Real
    images score the classifier's own accuracy, 0.995 on MNIST, and no more can be meant. It says nothing of diversity.
    """

    extractor = "domain"
    layer = "logits"
    scores = {"class-accuracy": ganzoo.Score("higher", high=1.0)}
    cost = "nothing beside the logits"
    conditional = True

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Forget everything; features will be logits (N, dimensions)."""
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.count = 0

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Take in logits (N, K) and the labels asked for. Raises GanzooError where a logit is not finite."""
        require_finite(features, origin, self)
        if origin == "fakes":
            self.right += (features.argmax(dim=1) == labels).sum()
            self.count += len(labels)

    def statistics(self) -> dict[str, Tensor]:
        """Nothing: the score does not look at reals."""
        return {}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Take up what `statistics` gave."""

    def compute(self) -> dict[str, float]:
        """A share from 0 to 1."""
        require_enough("Class accuracy", self.minimum, generated=self.count)
        return {"class-accuracy": int(self.right) / self.count}
