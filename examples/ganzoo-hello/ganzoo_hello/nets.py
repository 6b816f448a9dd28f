"""A tiny architecture."""

from __future__ import annotations

from typing import Annotated

import click
import torch
from torch import Tensor, nn

import ganzoo

ganzoo_api = 1


class Hello(ganzoo.Architecture):
    """Two small hidden layers on each side, for images of any size."""

    value_range = (-1.0, 1.0)
    recipe = ganzoo.Recipe.from_dict(
        {"losses": "nonsaturating", "turns": "D,G", "batch_size": 32, "length": "20 epochs"}
    )
    recipes = {"margin": {"losses": ["logistic-margin"]}}

    def __init__(
        self,
        *,
        width: Annotated[int, click.IntRange(min=1), "units of a hidden layer"] = 64,
        latent_dim: Annotated[int, click.IntRange(min=1), "size of a latent vector"] = 16,
    ) -> None:
        self.width, self.latent_dim = width, latent_dim

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """Two stacks of linear layers."""
        return Generator(self.latent_dim, self.width, images), Discriminator(self.width, images)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim) standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Generator(nn.Module):
    """Latents (N, Z) to images (N, C, H, W) in [-1, 1]."""

    def __init__(self, latent_dim: int, width: int, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.shape = (images.channels, images.height, images.width)
        hidden = (nn.Linear(latent_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.layers = nn.Sequential(*hidden, nn.Linear(width, images.pixels), nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """The labels are not used."""
        images: Tensor = self.layers(latents)
        return images.view(-1, *self.shape)


class Discriminator(nn.Module):
    """Images to logits (N, 1)."""

    def __init__(self, width: int, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        hidden = (nn.Linear(images.pixels, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 1))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The labels are not used."""
        logits: Tensor = self.layers(images)
        return logits
