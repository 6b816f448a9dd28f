"""The hinge loss of SNGAN, SAGAN and BigGAN."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu

import ganzoo
from ganzoo_plugins.losses._top_k import TopK, mean_of_top


class Hinge(ganzoo.SeparableLoss):
    """Hinge loss with margin 1; the generator raises the logits of its fakes.

    Lim & Ye 2017 (arXiv:1705.02894) and Miyato et al. 2018 (arXiv:1802.05957), equations 16 and 17: the discriminator's
    loss is E max(0, 1 - D(real)) + E max(0, 1 + D(fake)), the generator's -E D(fake), with D the logits.
    """

    newer_options = ("top_k",)

    def __init__(self, *, top_k: TopK = 1.0) -> None:
        super().__init__()
        self.top_k = top_k

    def on_reals(self, logits: Tensor) -> Tensor:
        """E max(0, 1 - D)."""
        return relu(1 - logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        """E max(0, 1 + D)."""
        return relu(1 + logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """-E D of the fakes."""
        return mean_of_top(-round.fake_logits, round.fake_logits, self.top_k)
