"""The loss of BEGAN."""

from __future__ import annotations

from typing import Annotated

import click
import torch
import torch.distributed as dist
from torch import Tensor

import ganzoo


class BoundaryEquilibrium(ganzoo.Loss):
    """Reconstruct the reals and not the fakes, as far as an equilibrium between the two allows.

    Berthelot et al. 2017 (arXiv:1703.10717), section 3.4. With L the reconstruction error of an image, which is minus
    its logit for an autoencoding discriminator such as `began`: the discriminator's cost is E L(real) - k E L(fake),
    the generator's E L(fake), and after the discriminator's turn k moves by
    rate (gamma E L(real) - E L(fake)), kept in [0, 1]. It starts at 0, is part of a run's state, and is the same on
    all ranks, for it moves by their means.

    As in the paper the discriminator is differentiated through both of its terms and k is a constant of the turn. In
    the paper one draw of fakes moves the discriminator and another the generator and k; here k moves by the fakes that
    the discriminator saw, once in each of its turns. With the turns `D+G` both players see the same ones.

    It can be had with any discriminator; one that is no autoencoder has logits of both signs, and then the equilibrium
    says nothing.
    """

    k: Tensor

    def __init__(
        self,
        *,
        gamma: Annotated[float, click.FloatRange(0, 1), "E L(fake) / E L(real) at equilibrium: diversity"] = 0.5,
        rate: Annotated[float, click.FloatRange(min=0), "of the movement of k (lambda in the paper)"] = 1e-3,
    ) -> None:
        super().__init__()
        self.gamma, self.rate = gamma, rate
        self.register_buffer("k", torch.zeros(()))

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """E L(real) - k E L(fake); afterwards k has moved."""
        real_error, fake_error = -round.real_logits.mean(), -round.fake_logits.mean()
        cost = real_error - self.k.clone() * fake_error  # a copy, because the buffer moves before the gradient is taken
        self._move(self.gamma * real_error.detach() - fake_error.detach())
        return cost

    def generator(self, round: ganzoo.Round) -> Tensor:
        """E L(fake)."""
        return -round.fake_logits.mean()

    @torch.no_grad()
    def _move(self, imbalance: Tensor) -> None:
        if dist.is_initialized():
            dist.all_reduce(imbalance)
            imbalance = imbalance / dist.get_world_size()
        self.k.add_(self.rate * imbalance).clamp_(0, 1)
