"""DCGAN of the TensorFlow tutorial: simultaneous updates, LeakyReLU 0.3, no biases in the generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.dropout import LeakyReLUDropout
from ganzoo_plugins.layers.keras import BatchNorm, Dense, SameConv2d, SameConvTranspose2d, flatten, mirror, unflatten
from ganzoo_plugins.layers.sizes import quarter

_SLOPE = 0.3  # the default of Keras's LeakyReLU


class DCGANTutorial(ganzoo.Architecture):
    """DCGAN of the TensorFlow tutorial, after Radford et al. 2015: 28x28 images, 50 epochs of MNIST.

    Source: tensorflow/docs, site/en/tutorials/generative/dcgan.ipynb (versions 023b91c8 and 945a4487), Apache-2.0. The
    variants `homework-mnist` and `homework-fashion` are Cherrydomini/Homework3-MNIST-Fashion-MNIST (4a0763f): the same
    program, run for 75 and 60 epochs.

    Generator: Dense, then transposed convolutions 5x5 to `4 width`, `2 width`, `width` and the image's channels,
    tanh; batch norm (momentum 0.99) and LeakyReLU between. Discriminator: two strided convolutions 5x5 with LeakyReLU
    and dropout, Dense. The gradients of both networks are computed on the same minibatch before either is updated. The
    discriminator is trained on fakes of a generator in training mode.

    Departure: an epoch's last batch has 96 real images. The tutorial uses 256 fakes with it, this recipe 96; the losses
    are means with the same expectation.
    """

    value_range = (-1.0, 1.0)
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "mnist",
            "losses": "nonsaturating",
            "turns": "D+G",
            "generator_mode_for_discriminator": "training",
            "generator_optimizer": "keras-adam:lr=1e-4,beta1=0.9,beta2=0.999,eps=1e-7",
            "discriminator_optimizer": "keras-adam:lr=1e-4,beta1=0.9,beta2=0.999,eps=1e-7",
            "batch_size": 256,
            "batch_order": "epochs",
            "length": "50 epochs",
            "samples_every": "1 epoch",
            "checkpoint_every": "15 epochs",
            "grid": "4x4",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "homework-mnist": {"dataset": "mnist", "length": "75 epochs"},
        "homework-fashion": {"dataset": "fashion-mnist", "length": "60 epochs"},
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "dcgan-tutorial:width=32",
            "dataset": "digits",
            "generator_optimizer": "adam:lr=4e-4",
            "discriminator_optimizer": "adam:lr=4e-4",
            "batch_size": 64,
            "ema_half_life": 6000,
            "length": "100 epochs",
            "samples_every": "10 epochs",
            "checkpoint_every": "50 epochs",
            "tick_every": "20 steps",
            "grid": "4x8",
        },
    }

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 100,
        width: Annotated[int, click.IntRange(min=1), "channels of the narrowest layer"] = 64,
        dropout: Annotated[float, click.FloatRange(0, 1, max_open=True), "of the discriminator"] = 0.3,
    ) -> None:
        self.latent_dim, self.width, self.dropout = latent_dim, width, dropout

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sizes that are multiples of 4."""
        base = quarter(images, "dcgan-tutorial")
        return (
            Generator(self.latent_dim, self.width, base, images.channels),
            Discriminator(self.width, base, images.channels, self.dropout),
        )

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, 4 h, 4 w) in (-1, 1)."""

    def __init__(self, latent_dim: int, width: int, base: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.base = base
        features = base[0] * base[1] * 4 * width
        self.dense = Dense(latent_dim, features, bias=False)
        self.bn0 = BatchNorm(features, momentum=0.99, moving_variance="population")
        self.convt1 = SameConvTranspose2d(4 * width, 2 * width, 5, bias=False, mirrored=False)
        self.bn1 = BatchNorm(2 * width, momentum=0.99, moving_variance="corrected")
        self.convt2 = SameConvTranspose2d(2 * width, width, 5, stride=2, bias=False)
        self.bn2 = BatchNorm(width, momentum=0.99, moving_variance="corrected")
        self.convt3 = SameConvTranspose2d(width, channels, 5, stride=2, bias=False)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = unflatten(F.leaky_relu_(self.bn0(self.dense(latents)), _SLOPE), *self.base)
        features = mirror(F.leaky_relu_(self.bn1(self.convt1(features)), _SLOPE))
        features = F.leaky_relu_(self.bn2(self.convt2(features)), _SLOPE)
        return torch.tanh(mirror(self.convt3(features)))


class Discriminator(nn.Module):
    """Images (N, C, 4 h, 4 w) -> logits (N, 1)."""

    def __init__(self, width: int, base: tuple[int, int], channels: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = SameConv2d(channels, width, 5, stride=2)
        self.conv2 = SameConv2d(width, 2 * width, 5, stride=2)
        self.dense = Dense(base[0] * base[1] * 2 * width, 1)
        self.leaky_relu_dropout = LeakyReLUDropout(_SLOPE, dropout)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = self.leaky_relu_dropout(self.conv1(mirror(images)))
        features = self.leaky_relu_dropout(self.conv2(features))
        logits: Tensor = self.dense(flatten(mirror(features)))
        return logits
