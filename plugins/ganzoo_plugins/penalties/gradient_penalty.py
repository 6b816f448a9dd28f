"""The gradient penalty of WGAN-GP."""

from __future__ import annotations

from typing import Annotated

import click
import torch
from torch import Tensor

import ganzoo


class GradientPenalty(ganzoo.Loss):
    """Penalty that pulls the norm of the discriminator's gradient towards 1 between reals and fakes.

    Gulrajani et al. 2017 (arXiv:1704.00028), equation 3 and algorithm 1: weight E (||grad D(x)|| - target)^2 at points
    x drawn uniformly on the line between the i-th fake and the i-th real, with D the logits; several logits of one
    image are added. It needs one more forward of the discriminator.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, click.FloatRange(min=0), "strength (lambda in the paper)"] = 10.0,
        target: Annotated[float, click.FloatRange(min=0), "the norm without a penalty"] = 1.0,
    ) -> None:
        super().__init__()
        self.weight, self.target = weight, target

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """weight E (||grad D|| - target)^2 between fakes and reals."""
        reals, fakes = round.reals.detach(), round.fakes.detach()
        shares = torch.rand(len(reals), 1, 1, 1, dtype=reals.dtype, device=reals.device)
        points = (shares * reals + (1 - shares) * fakes).requires_grad_()
        (gradients,) = torch.autograd.grad(round.discriminate(points).sum(), points, create_graph=True)
        # the gradient of vector_norm at 0 is 0; that of the root of a sum of squares would be NaN
        norms: Tensor = torch.linalg.vector_norm(gradients, dim=(1, 2, 3))
        return self.weight * (norms - self.target).square().mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Zero: the penalty does not train the generator."""
        return round.reals.new_zeros(())
