"""The loss of BEGAN."""

from __future__ import annotations

from typing import Annotated

import click
import torch
import torch.distributed as dist
from torch import Tensor

import ganzoo


class BoundaryEquilibrium(ganzoo.Loss):
    """Loss of BEGAN: reconstruct reals and not fakes, with their errors held at a given ratio.

    Berthelot et al. 2017 (arXiv:1703.10717), section 3.4. L is the reconstruction error of an image, minus its logit
    for a discriminator that is an autoencoder, such as `began`. The discriminator's loss is E L(real) - k E L(fake),
    the generator's E L(fake). After each update of the discriminator k changes by rate (gamma E L(real) - E L(fake))
    and is clamped to [0, 1]. k starts at 0 and is saved in checkpoints. It is the same on all ranks, because these
    means are taken over all ranks.

    As in the paper, the gradient of the discriminator goes through both terms, and k is a constant in it. In the paper
    the discriminator is updated with one draw of fakes, the generator and k with another. Here k is updated with the
    discriminator's fakes, once in each of its turns. With the turns `D+G` both networks use the same fakes.

    It runs with any discriminator; one that is not an autoencoder has logits of both signs, and then the equilibrium
    has no meaning.
    """

    k: Tensor

    def __init__(
        self,
        *,
        gamma: Annotated[float, click.FloatRange(0, 1), "E L(fake) / E L(real) at equilibrium: diversity"] = 0.5,
        rate: Annotated[float, click.FloatRange(min=0), "learning rate of k (lambda in the paper)"] = 1e-3,
    ) -> None:
        super().__init__()
        self.gamma, self.rate = gamma, rate
        self.register_buffer("k", torch.zeros(()))

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """E L(real) - k E L(fake). It also updates k."""
        real_error, fake_error = -round.real_logits.mean(), -round.fake_logits.mean()
        # a copy of k, because the buffer changes before the gradient is computed
        loss = real_error - self.k.clone() * fake_error
        self._update_k(self.gamma * real_error.detach() - fake_error.detach())
        return loss

    def generator(self, round: ganzoo.Round) -> Tensor:
        """E L(fake)."""
        return -round.fake_logits.mean()

    @torch.no_grad()
    def _update_k(self, imbalance: Tensor) -> None:
        if dist.is_initialized():
            dist.all_reduce(imbalance)
            imbalance = imbalance / dist.get_world_size()
        self.k.add_(self.rate * imbalance).clamp_(0, 1)
