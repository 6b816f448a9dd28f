"""Zero-centred gradient penalties: they pull the discriminator's gradient at the reals, or the fakes, towards zero."""

from __future__ import annotations

from typing import Annotated

import click
from torch import Tensor

import ganzoo
from ganzoo_plugins.penalties._gradients import image_gradients


class R1(ganzoo.Loss):
    """gamma / 2 times the squared gradient of the discriminator at the reals.

    Mescheder et al. 2018 (arXiv:1801.04406), equation 9: R1 = gamma / 2 E ||grad D(x)||^2 over reals x, with D the
    logits; several logits of one image are added. It uses the logits of the round: no second forward is needed.
    """

    def __init__(
        self,
        *,
        gamma: Annotated[float, click.FloatRange(min=0), "strength; half of it multiplies the mean square"] = 1.0,
    ) -> None:
        super().__init__()
        self.gamma = gamma

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """gamma / 2 E ||grad D||^2 at the reals."""
        return self.gamma / 2 * _squared_gradient(round.real_logits, round.reals).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Zero: the penalty does not train the generator."""
        return round.reals.new_zeros(())


class R2(ganzoo.Loss):
    """gamma / 2 times the squared gradient of the discriminator at the fakes.

    Mescheder et al. 2018 (arXiv:1801.04406), equation 10: R2 = gamma / 2 E ||grad D(x)||^2 over fakes x; see `r1`.
    """

    def __init__(
        self,
        *,
        gamma: Annotated[float, click.FloatRange(min=0), "strength; half of it multiplies the mean square"] = 1.0,
    ) -> None:
        super().__init__()
        self.gamma = gamma

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """gamma / 2 E ||grad D||^2 at the fakes."""
        return self.gamma / 2 * _squared_gradient(round.fake_logits, round.fakes).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Zero: the penalty does not train the generator."""
        return round.reals.new_zeros(())


def _squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """(N,) squared norm of the gradient of each image's logits; it can be differentiated again."""
    return image_gradients(logits, images).square().sum(dim=(1, 2, 3))
