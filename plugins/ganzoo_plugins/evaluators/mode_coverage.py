"""Mode coverage: how many classes appear among the fakes, and how evenly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._features import require_enough, require_finite


class ModeCoverage(ganzoo.Evaluator):
    """The classes that appear among the fakes, the share that is missing, and the divergence from those of the reals.

    Metz et al. 2017 (arXiv:1611.02163) and Srivastava et al. 2017 (arXiv:1705.07761) count the 1,000 modes of
    Stacked-MNIST in this way; on other datasets the modes are the classes. The domain classifier predicts the class of
    each image. `modes` (higher is better): the number of classes predicted for at least one fake. `modes-missing`, 0 to
    1 (lower is better): the share of classes predicted for none. `modes-kl`, from 0 (lower is better): KL(fakes ||
    reals) = sum_k p_k log(p_k / q_k) in nats, between the histograms of predicted classes.

    The classes of the reals are predicted too, so that errors of the classifier do not count as missing modes, and half
    an image is added to each class of the reals, so that the divergence is finite. Published values compare about
    26,000 fakes with the uniform histogram. A perfect generator has about (K - 1) / 2N with K classes and N fakes: 0.05
    for 1,000 classes and 10,000 fakes. Compare only scores of the same N.
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
        """Clear all state. The features will be logits (N, dimensions)."""
        self.reals = torch.zeros(dimensions, dtype=torch.int64, device=device)
        self.fakes = torch.zeros_like(self.reals)

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add logits (N, K) of one origin. Raises GanzooError if one is not finite."""
        require_finite(features, origin, self)
        counts = self.reals if origin == "reals" else self.fakes
        counts += features.argmax(dim=1).bincount(minlength=len(counts))

    def statistics(self) -> dict[str, Tensor]:
        """`reals` (K,): the number of reals that the classifier assigns to each class."""
        return {"reals": self.reals}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use the result of `statistics` in place of the reals."""
        self.reals = statistics["reals"].to(self.fakes.device)

    def compute(self) -> dict[str, float]:
        """`modes` from 1 to the number of classes, `modes-missing` from 0 to 1, `modes-kl` from 0."""
        require_enough("Mode coverage", self.minimum, real=int(self.reals.sum()), generated=int(self.fakes.sum()))
        fakes = self.fakes.double() / self.fakes.sum()
        reals = (self.reals + 0.5) / (self.reals + 0.5).sum()
        divergence = torch.special.xlogy(fakes, fakes / reals).sum()
        covered = int((self.fakes > 0).sum())
        return {
            "modes": float(covered),
            "modes-missing": 1 - covered / len(self.fakes),
            "modes-kl": max(0.0, float(divergence)),
        }
