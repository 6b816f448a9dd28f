"""The loss of LSGAN."""

from __future__ import annotations

from torch import Tensor

import ganzoo


class LeastSquares(ganzoo.SeparableLoss):
    """Half the squared distance to a target: 0 for fakes, 1 for reals, 1 for the generator.

    Mao et al. 2017 (arXiv:1611.04076), equation 9: the discriminator's loss is E (D(real) - 1)^2 / 2 + E D(fake)^2 / 2,
    the generator's E (D(fake) - 1)^2 / 2, with D the logits.
    """

    def __init__(self) -> None:  # no options
        super().__init__()

    def on_reals(self, logits: Tensor) -> Tensor:
        """E (D - 1)^2 / 2."""
        return (logits - 1).square().mean() / 2

    def on_fakes(self, logits: Tensor) -> Tensor:
        """E D^2 / 2."""
        return logits.square().mean() / 2

    def generator(self, round: ganzoo.Round) -> Tensor:
        """E (D - 1)^2 / 2 of the fakes."""
        return (round.fake_logits - 1).square().mean() / 2
