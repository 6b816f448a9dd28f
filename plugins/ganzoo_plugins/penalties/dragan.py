"""The gradient penalty of DRAGAN."""

from __future__ import annotations

from typing import Annotated

import click
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.penalties._gradients import norm_penalty


class DRAGAN(ganzoo.Loss):
    """Penalty that pulls the norm of the discriminator's gradient towards 1 in the neighbourhood of the reals.

    Kodali et al. 2017 (arXiv:1705.07215): weight E (||grad D(x + d)|| - target)^2 over reals x and small perturbations
    d, with D the logits; several logits of one image are added. The perturbations are those of the authors' program
    (kodalinaveen3/DRAGAN at 29fb907): `noise` times the standard deviation of the whole minibatch, times uniform noise
    from 0 to 1 for each pixel and channel, times one number from 0 to 1 for each image. So all points are brighter than
    their reals, and may leave the value range. Fakes are not used. It needs one more forward of the discriminator.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, click.FloatRange(min=0), "strength (lambda in the paper)"] = 10.0,
        target: Annotated[float, click.FloatRange(min=0), "the norm without a penalty (k in the paper)"] = 1.0,
        noise: Annotated[
            float, click.FloatRange(min=0), "largest perturbation, in standard deviations of the reals"
        ] = 0.5,
        eps: Annotated[float, click.FloatRange(min=0), "added to the square of the norm, under the root"] = 0.0,
    ) -> None:
        super().__init__()
        self.weight, self.target, self.noise, self.eps = weight, target, noise, eps

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """weight E (||grad D|| - target)^2 around the reals."""
        reals = round.reals.detach()
        perturbations = self.noise * reals.std(correction=0) * torch.rand_like(reals)
        shares = torch.rand(len(reals), 1, 1, 1, dtype=reals.dtype, device=reals.device)
        points = reals + shares * perturbations
        return self.weight * norm_penalty(round, points, self.target, self.eps)

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Zero: the penalty does not train the generator."""
        return round.reals.new_zeros(())
