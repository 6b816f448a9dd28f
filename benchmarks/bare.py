"""A loop by hand around the very networks, optimisers and data that our engine plays with: what the engine costs.

The flags are the engine's: the whole dataset in one uint8 tensor, fused Adam, memory layout, autocast, one forward of
the generator for a simultaneous update. Nothing is generic, nothing is read, nothing can be switched.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ganzoo.engine.memory_format import MEMORY_FORMAT
from ganzoo.training.build import TrainingSetup


class Bare:
    """Simultaneous steps of a game with the non-saturating loss, by hand: the table's own parts, moved by this loop."""

    def __init__(self, table: TrainingSetup) -> None:
        game = table.game
        self.generator, self.discriminator = game.generator, game.discriminator
        self.moves = [
            (list(self.generator.parameters()), game.players["G"].optimizer),
            (list(self.discriminator.parameters()), game.players["D"].optimizer),
        ]
        self.images, self.labels = table.dataset.read(torch.arange(len(table.dataset)))
        self.order = torch.randperm(len(self.images))
        self.latents = table.architecture.latents
        self.random, self.batch_size = game.random, game.batch_size
        self.bf16 = game.autocast
        self.position = 0

    def step(self) -> tuple[Tensor, Tensor]:
        """One step on the next images; returns the losses of both, unread."""
        chosen = self.order[self.position : self.position + self.batch_size]
        self.position = (self.position + self.batch_size) % (len(self.order) - self.batch_size + 1)
        return self.play(self.images[chosen], self.labels[chosen], self.latents(len(chosen), self.random))

    def play(self, images: Tensor, labels: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """One step on these images, uint8 (N, C, H, W), and latents (N, Z)."""
        reals = images.contiguous(memory_format=MEMORY_FORMAT).to(torch.float32).div_(127.5).sub_(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            fakes = self.generator(latents, labels)
            on_reals = self.discriminator(reals, labels).float()
            on_fakes = self.discriminator(fakes.float(), labels).float()
        discriminator_loss = F.softplus(-on_reals).mean() + F.softplus(on_fakes).mean()
        generator_loss = F.softplus(-on_fakes).mean()
        gradients = [
            torch.autograd.grad(discriminator_loss, self.moves[1][0], retain_graph=True),
            torch.autograd.grad(generator_loss, self.moves[0][0]),
        ]
        for (parameters, optimizer), taken in zip(reversed(self.moves), gradients, strict=True):
            for parameter, gradient in zip(parameters, taken, strict=True):
                parameter.grad = gradient
            optimizer.step()
        return discriminator_loss.detach(), generator_loss.detach()
