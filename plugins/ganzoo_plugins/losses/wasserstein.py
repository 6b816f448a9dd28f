"""The loss of WGAN."""

from __future__ import annotations

from torch import Tensor

import ganzoo
from ganzoo_plugins.losses._top_k import TopK, mean_of_top


class Wasserstein(ganzoo.SeparableLoss):
    """Difference of mean logits: an earth mover's distance where the discriminator is 1-Lipschitz.

    Arjovsky et al. 2017 (arXiv:1701.07875), equation 2 and algorithm 1: the discriminator's loss is
    E D(fake) - E D(real), the generator's -E D(fake), with D the logits. It has no lower bound: combine it with a
    penalty that bounds the discriminator, such as `gradient-penalty`, or clip its weights.
    """

    newer_options = ("top_k",)

    def __init__(self, *, top_k: TopK = 1.0) -> None:
        super().__init__()
        self.top_k = top_k

    def on_reals(self, logits: Tensor) -> Tensor:
        """-E D."""
        return -logits.mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        """E D."""
        return logits.mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """-E D of the fakes."""
        return mean_of_top(-round.fake_logits, round.fake_logits, self.top_k)
