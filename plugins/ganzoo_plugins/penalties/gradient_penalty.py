"""The gradient penalty of WGAN-GP."""

from __future__ import annotations

from typing import Annotated

import click
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.penalties._gradients import norm_penalty


class GradientPenalty(ganzoo.Loss):
    """Penalty that pulls the norm of the discriminator's gradient towards 1 between reals and fakes.

    Gulrajani et al. 2017 (arXiv:1704.00028), equation 3 and algorithm 1: weight E (||grad D(x)|| - target)^2 at points
    x drawn uniformly on the line between the i-th fake and the i-th real, with D the logits; several logits of one
    image are added. The points have the classes of the reals. It needs one more forward of the discriminator.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, click.FloatRange(min=0), "strength (lambda in the paper)"] = 10.0,
        target: Annotated[float, click.FloatRange(min=0), "the norm without a penalty"] = 1.0,
        eps: Annotated[float, click.FloatRange(min=0), "added to the square of the norm, under the root"] = 0.0,
    ) -> None:
        super().__init__()
        self.weight, self.target, self.eps = weight, target, eps

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """weight E (||grad D|| - target)^2 between fakes and reals."""
        reals, fakes = round.reals.detach(), round.fakes.detach()
        shares = torch.rand(len(reals), 1, 1, 1, dtype=reals.dtype, device=reals.device)
        points = shares * reals + (1 - shares) * fakes
        return self.weight * norm_penalty(round, points, self.target, self.eps)

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Zero: the penalty does not train the generator."""
        return round.reals.new_zeros(())
