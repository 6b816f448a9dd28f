"""The fully connected GAN that descends from Keras-GAN, in the two versions that were run on Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.keras import BatchNorm, Dense, flatten, unflatten


class MLPKerasGAN(ganzoo.Architecture):
    """Fully connected GAN after eriklindernoren/Keras-GAN: three hidden layers, one Adam for both players.

    Source: the variant `rsuresh` is R-Suresh/GAN_fashion_MNIST, gan.py at b50654a (2018-06-25), with batches of 32;
    the variant `week06`, which is the default, is Dexter1618/MMWML, Week06/GAN_FashionMNIST.ipynb at 6b4c1c8
    (2019-10-09), the same networks and steps with batches of 256. What both call 3,000 epochs are 3,000 batches.

    Generator: Dense `width`, `2 width`, `4 width`, each with LeakyReLU 0.2 and then batch norm (momentum 0.8); Dense,
    tanh. Discriminator: Dense `2 width`, `width`, LeakyReLU 0.2; Dense. A step updates the discriminator on reals,
    then on fakes of a generator in inference mode, and then the generator. Both networks share one optimiser, so its
    step counter advances by three.
    """

    value_range = (-1.0, 1.0)
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "fashion-mnist",
            "losses": "nonsaturating",
            "turns": "D.reals,D.fakes,G",
            "generator_mode_for_discriminator": "inference",
            "generator_optimizer": "keras-adam:lr=2e-4,beta1=0.5,beta2=0.999,eps=1e-7",
            "discriminator_optimizer": None,
            "batch_size": 256,
            "batch_order": "replacement",
            "length": "3000 steps",
            "tick_every": "10 steps",
            "samples_every": "200 steps",
            "checkpoint_every": "1000 steps",  # the programs write none
            "grid": "5x5",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "week06": {"batch_size": 256},
        "rsuresh": {"batch_size": 32},
    }

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 100,
        width: Annotated[int, click.IntRange(min=1), "units of the narrowest layer"] = 256,
    ) -> None:
        self.latent_dim, self.width = latent_dim, width

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for images of any size."""
        return Generator(self.latent_dim, self.width, images), Discriminator(self.width, images)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, H, W) in (-1, 1)."""

    def __init__(self, latent_dim: int, width: int, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.size = images.height, images.width
        self.dense1 = Dense(latent_dim, width)
        self.bn1 = BatchNorm(width, momentum=0.8, moving_variance="population")
        self.dense2 = Dense(width, 2 * width)
        self.bn2 = BatchNorm(2 * width, momentum=0.8, moving_variance="population")
        self.dense3 = Dense(2 * width, 4 * width)
        self.bn3 = BatchNorm(4 * width, momentum=0.8, moving_variance="population")
        self.dense4 = Dense(4 * width, images.pixels)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = self.bn1(F.leaky_relu(self.dense1(latents), 0.2))
        features = self.bn2(F.leaky_relu(self.dense2(features), 0.2))
        features = self.bn3(F.leaky_relu(self.dense3(features), 0.2))
        return unflatten(torch.tanh(self.dense4(features)), *self.size)


class Discriminator(nn.Module):
    """Images (N, C, H, W) -> logits (N, 1)."""

    def __init__(self, width: int, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.dense1 = Dense(images.pixels, 2 * width)
        self.dense2 = Dense(2 * width, width)
        self.dense3 = Dense(width, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = F.leaky_relu(self.dense1(flatten(images)), 0.2)
        logits: Tensor = self.dense3(F.leaky_relu(self.dense2(features), 0.2))
        return logits
