"""Mode coverage: which classes the fakes reach, and how evenly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._features import require_enough, require_finite


class ModeCoverage(ganzoo.Evaluator):
    """Classes the fakes are of, the share of classes missed, and the divergence of their histogram from the reals'.

    Metz et al. 2017 (arXiv:1611.02163) and Srivastava et al. 2017 (arXiv:1705.07761) count the 1,000 modes of
    Stacked-MNIST so; elsewhere it is the histogram of the dataset's classes. `modes`: how many classes the domain
    classifier sees among the fakes, of all. `modes-missing`: the share of classes with none. `modes-kl`: KL(fakes ||
    reals) in nats between the histograms of predicted classes. The reals are predicted too, so that what the
    classifier mistakes is no missing mode, and half an image is added to each of their classes, so that a class no
    real is seen as does not make it infinite. Published values are against the uniform histogram, of some 26,000 fakes.
    With K classes and N fakes a perfect generator has about (K - 1) / 2N: 0.05 for 1,000 classes and 10,000 fakes;
    compare under the same N.
    """

    extractor = "domain"
    layer = "logits"
    scores = {
        "modes": ganzoo.Score("higher"),
        "modes-missing": ganzoo.Score("lower", high=1.0),
        "modes-kl": ganzoo.Score("lower"),
    }
    cost = "nothing beside the logits"

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Forget everything; features will be logits (N, dimensions)."""
        self.reals = torch.zeros(dimensions, dtype=torch.int64, device=device)
        self.fakes = torch.zeros_like(self.reals)

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Take in logits (N, K). Raises GanzooError where one is not finite."""
        require_finite(features, origin, self)
        counts = self.reals if origin == "reals" else self.fakes
        counts += features.argmax(dim=1).bincount(minlength=len(counts))

    def statistics(self) -> dict[str, Tensor]:
        """How many reals are seen as each class."""
        return {"reals": self.reals}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Take up what `statistics` gave, in place of the reals."""
        self.reals = statistics["reals"].to(self.fakes.device)

    def compute(self) -> dict[str, float]:
        """`modes` to the number of classes, `modes-missing` from 0 to 1, `modes-kl` from 0."""
        require_enough("Mode coverage", self.minimum, real=int(self.reals.sum()), generated=int(self.fakes.sum()))
        fakes = self.fakes.double() / self.fakes.sum()
        reals = (self.reals + 0.5) / (self.reals + 0.5).sum()
        divergence = torch.special.xlogy(fakes, fakes / reals).sum()
        hit = int((self.fakes > 0).sum())
        return {
            "modes": float(hit),
            "modes-missing": 1 - hit / len(self.fakes),
            "modes-kl": max(0.0, float(divergence)),
        }
