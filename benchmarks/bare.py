"""A hand-written training loop on the same networks, optimisers and data as the engine: it shows what the engine costs.

It uses the same performance settings as the engine: the whole dataset in one uint8 tensor, fused Adam, the same memory
format, autocast, and one forward pass of the generator for a simultaneous update. It has no options and reads no
losses back.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ganzoo.engine.memory_format import MEMORY_FORMAT
from ganzoo.training.build import TrainingSetup


class Bare:
    """Simultaneous steps with the non-saturating loss, written by hand, on the networks and optimisers of a setup."""

    def __init__(self, setup: TrainingSetup) -> None:
        game = setup.game
        self.generator, self.discriminator = game.generator, game.discriminator
        self.generator_parameters = list(self.generator.parameters())
        self.discriminator_parameters = list(self.discriminator.parameters())
        self.generator_optimizer = game.players["G"].optimizer
        self.discriminator_optimizer = game.players["D"].optimizer
        self.images, self.labels = setup.dataset.read(torch.arange(len(setup.dataset)))
        self.order = torch.randperm(len(self.images))
        self.latents = setup.architecture.latents
        self.random, self.batch_size = game.random, game.batch_size
        self.bf16 = game.autocast
        self.position = 0

    def step(self) -> tuple[Tensor, Tensor]:
        """One step on the next batch; returns the discriminator's loss and the generator's, detached."""
        chosen = self.order[self.position : self.position + self.batch_size]
        self.position = (self.position + self.batch_size) % (len(self.order) - self.batch_size + 1)
        return self.step_on(self.images[chosen], self.labels[chosen], self.latents(len(chosen), self.random))

    def step_on(self, images: Tensor, labels: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """One step on these images, uint8 (N, C, H, W), with labels (N,) and latents (N, Z)."""
        reals = images.contiguous(memory_format=MEMORY_FORMAT).to(torch.float32).div_(127.5).sub_(1)  # in [-1, 1]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            fakes = self.generator(latents, labels)
            real_logits = self.discriminator(reals, labels).float()
            fake_logits = self.discriminator(fakes.float(), labels).float()
        discriminator_loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        generator_loss = F.softplus(-fake_logits).mean()
        discriminator_gradients = torch.autograd.grad(
            discriminator_loss, self.discriminator_parameters, retain_graph=True
        )
        generator_gradients = torch.autograd.grad(generator_loss, self.generator_parameters)
        for parameters, gradients, optimizer in (
            (self.discriminator_parameters, discriminator_gradients, self.discriminator_optimizer),
            (self.generator_parameters, generator_gradients, self.generator_optimizer),
        ):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
        return discriminator_loss.detach(), generator_loss.detach()
