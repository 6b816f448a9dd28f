"""Class accuracy: whether a conditional generator draws the classes it is asked for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._features import require_enough, require_finite


class ClassAccuracy(ganzoo.Evaluator):
    """Share of fakes that the domain classifier assigns to the class they were drawn for, 0 to 1; higher is better.

    mean over fakes of [argmax(logits) = label]. Odena et al. 2017 (arXiv:1610.09585) do the same with
    Inception's classes. Unconditional architectures are refused: they would score 1 / classes for any images.
    The best value to expect is that of real images, the accuracy of the classifier: 0.996 on MNIST. The score does not
    measure diversity: one image a class is enough.
    """

    extractor = "domain"
    layer = "logits"
    scores = {"class-accuracy": ganzoo.Score("higher", high=1.0)}
    cost = "nothing beside the logits"
    conditional = True

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state. The features will be logits (N, dimensions)."""
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.count = 0

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add logits (N, K) of one origin; `labels` (N,) are the classes the fakes were drawn for.

        Raises GanzooError if a logit is not finite.
        """
        require_finite(features, origin, self)
        if origin == "fakes":
            self.right += (features.argmax(dim=1) == labels).sum()
            self.count += len(labels)

    def statistics(self) -> dict[str, Tensor]:
        """Empty: the score does not depend on reals."""
        return {}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Do nothing: there are no statistics."""

    def compute(self) -> dict[str, float]:
        """The accuracy, from 0 to 1."""
        require_enough("Class accuracy", self.minimum, generated=self.count)
        return {"class-accuracy": int(self.right) / self.count}
