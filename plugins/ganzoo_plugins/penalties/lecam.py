"""The regularisation of LeCam GAN, for small sets of images."""

from __future__ import annotations

from typing import Annotated

import click
import torch
from torch import Tensor
from torch.nn.functional import relu

import ganzoo
from ganzoo_plugins.layers.processes import sum_over_processes


class LeCam(ganzoo.Loss):
    """Penalty that holds the logits of reals near the moving mean of those of fakes, and the other way round.

    Tseng et al. 2021, "Regularizing Generative Adversarial Networks under Limited Data" (arXiv:2104.03310), equation 5,
    in the form of the authors' program (google/lecam-gan at f9af948), which penalises one direction only:
    weight (E max(0, D(real) - a_fake)^2 + E max(0, a_real - D(fake))^2), with D the logits. a_real and a_fake are
    moving means of the logits of reals and fakes over all processes. They are moved first, are constants in the
    gradient, and are saved in checkpoints. Until `start` real images were seen they are the means of the present batch,
    and the penalty is 0; after that it counts. The program has weight 0.3, decay 0.9 and a start of 1,000 steps for its
    BigGAN on CIFAR.
    """

    anchors: Tensor
    kept: Tensor
    factor: Tensor

    def __init__(
        self,
        *,
        weight: Annotated[float, click.FloatRange(min=0), "strength (lambda in the paper)"] = 0.3,
        decay: Annotated[float, click.FloatRange(0, 1), "share of the moving means that a step keeps"] = 0.99,
        start: Annotated[int, click.IntRange(min=0), "real images seen before it counts"] = 0,
    ) -> None:
        super().__init__()
        self.weight, self.decay, self.start = weight, decay, start
        #: the moving means of the logits of reals and of fakes
        self.register_buffer("anchors", torch.zeros(2))
        # numbers of this step, which a recorded step reads
        self.register_buffer("kept", torch.zeros(()))
        self.register_buffer("factor", torch.zeros(()))
        self.advance(0)

    def advance(self, images_seen: int) -> None:
        """Set what a step after `images_seen` real images keeps of the moving means, and whether the penalty counts."""
        self.kept.fill_(0.0 if images_seen < max(self.start, 1) else self.decay)
        self.factor.fill_(float(images_seen > self.start or not self.start))

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """weight (E max(0, D(real) - a_fake)^2 + E max(0, a_real - D(fake))^2). It also moves a_real and a_fake."""
        reals, fakes = round.real_logits, round.fake_logits
        with torch.no_grad():
            total, processes = sum_over_processes(torch.stack([reals.mean(), fakes.mean()]))
            means = (total / processes).to(self.anchors.dtype)
            self.anchors.copy_(means.lerp(self.anchors, self.kept))
        # copies, because the buffer may change before the gradient is computed
        real, fake = self.anchors.clone()
        penalty = relu(reals - fake).square().mean() + relu(real - fakes).square().mean()
        return self.weight * self.factor * penalty

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Zero: the penalty does not train the generator."""
        return round.reals.new_zeros(())
