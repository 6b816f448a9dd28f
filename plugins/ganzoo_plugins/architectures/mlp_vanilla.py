"""The vanilla GAN: one hidden layer on each side, neither batch norm nor dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.keras import flatten, unflatten


class MLPVanilla(ganzoo.Architecture):
    """Vanilla GAN with one hidden layer of 128 units on each side, 100,000 steps of 16 images.

    Source: mari-linhares/DeepLearning, GAN-fashion-MNIST/gan.py at 182d4d5 (2017); it is the vanilla GAN of wiseodd's
    generative-models with batches of 16. The networks of Goodfellow et al. 2014 (arXiv:1406.2661) are similar.

    Generator: Dense `width`, ReLU, Dense, sigmoid. Discriminator: Dense `width`, ReLU, Dense. Weights are normal with
    standard deviation sqrt(2 / inputs), not truncated; biases are zero. The generator's update uses new latents.
    """

    value_range = (0.0, 1.0)
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "fashion-mnist",
            "losses": "nonsaturating",
            "turns": "D,G",
            "generator_optimizer": "keras-adam:lr=1e-3,beta1=0.9,beta2=0.999,eps=1e-8",
            "discriminator_optimizer": "keras-adam:lr=1e-3,beta1=0.9,beta2=0.999,eps=1e-8",
            "batch_size": 16,
            "batch_order": "stream",
            "subset": "last 55000",
            "length": "100000 steps",
            "samples_every": "1000 steps",
            "checkpoint_every": "10000 steps",  # the program writes none
            "grid": "4x4",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"mnist": {"dataset": "mnist"}}

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 100,
        width: Annotated[int, click.IntRange(min=1), "units of the hidden layers"] = 128,
    ) -> None:
        self.latent_dim, self.width = latent_dim, width

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for images of any size."""
        return Generator(self.latent_dim, self.width, images), Discriminator(self.width, images)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), uniform in [-1, 1)."""
        return torch.rand(count, self.latent_dim, generator=generator, device=generator.device) * 2 - 1


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, H, W) in (0, 1)."""

    def __init__(self, latent_dim: int, width: int, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.size = images.height, images.width
        self.dense1 = _dense(latent_dim, width)
        self.dense2 = _dense(width, images.pixels)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        return unflatten(torch.sigmoid(self.dense2(F.relu(self.dense1(latents)))), *self.size)


class Discriminator(nn.Module):
    """Images (N, C, H, W) -> logits (N, 1)."""

    def __init__(self, width: int, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.dense1 = _dense(images.pixels, width)
        self.dense2 = _dense(width, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        logits: Tensor = self.dense2(F.relu(self.dense1(flatten(images))))
        return logits


def _dense(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
