"""The loss of LSGAN."""

from __future__ import annotations

from torch import Tensor

import ganzoo
from ganzoo_plugins.losses._top_k import TopK, mean_of_top


class LeastSquares(ganzoo.SeparableLoss):
    """Half the squared distance to a target: 0 for fakes, 1 for reals, 1 for the generator.

    Mao et al. 2017 (arXiv:1611.04076), equation 9: the discriminator's loss is E (D(real) - 1)^2 / 2 + E D(fake)^2 / 2,
    the generator's E (D(fake) - 1)^2 / 2, with D the logits.
    """

    newer_options = ("top_k",)

    def __init__(self, *, top_k: TopK = 1.0) -> None:
        super().__init__()
        self.top_k = top_k

    def on_reals(self, logits: Tensor) -> Tensor:
        """E (D - 1)^2 / 2."""
        return (logits - 1).square().mean() / 2

    def on_fakes(self, logits: Tensor) -> Tensor:
        """E D^2 / 2."""
        return logits.square().mean() / 2

    def generator(self, round: ganzoo.Round) -> Tensor:
        """E (D - 1)^2 / 2 of the fakes."""
        return mean_of_top((round.fake_logits - 1).square(), round.fake_logits, self.top_k) / 2
