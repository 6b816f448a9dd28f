"""DCGAN of Rowel Atienza's book: pre-activation networks, RMSprop, 40,000 steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.keras import BatchNorm, Dense, SameConv2d, SameConvTranspose2d, flatten, mirror, unflatten
from ganzoo_plugins.layers.sizes import quarter


class DCGANAtienzaBook(ganzoo.Architecture):
    """DCGAN of Atienza's book "Advanced Deep Learning with Keras", chapter 4: activations before the convolutions.

    Source: PacktPublishing/Advanced-Deep-Learning-with-Keras, chapter4-gan/dcgan-mnist-4.2.1.py at e50000e
    (2019-12-14), MIT.

    Generator: Dense, then four times batch norm (momentum 0.99), ReLU and a 5x5 transposed convolution, to `4 width`,
    `2 width`, `width` and the image's channels, the first two of stride 2; sigmoid. Discriminator: four times
    LeakyReLU 0.2 and a 5x5 convolution, `width` to `8 width`, three of stride 2, then Dense, with no activation
    between the last convolution and Dense. The discriminator is trained on fakes of a generator in inference mode. Its
    loss is one mean over reals and fakes.
    """

    value_range = (0.0, 1.0)
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "mnist",
            "losses": "nonsaturating:reduction=mean",
            "turns": "D,G",
            "generator_mode_for_discriminator": "inference",
            "generator_optimizer": "keras-rmsprop:lr=1e-4,decay=3e-8,eps=1e-7",
            "discriminator_optimizer": "keras-rmsprop:lr=2e-4,decay=6e-8,eps=1e-7",
            "batch_size": 64,
            "batch_order": "replacement",
            "length": "40000 steps",
            "samples_every": "500 steps",
            "checkpoint_every": "5000 steps",  # the program saves its generator once, at the end
            "grid": "4x4",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "dcgan-atienza-book:width=16",
            "dataset": "digits",
            "generator_mode_for_discriminator": "training",
            "generator_optimizer": "adam:lr=4e-4",
            "discriminator_optimizer": "adam:lr=4e-4",
            "batch_order": "epochs",
            "ema_half_life": 6000,
            "length": "80 epochs",
            "samples_every": "8 epochs",
            "checkpoint_every": "40 epochs",
            "tick_every": "20 steps",
            "grid": "4x8",
        },
    }

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 100,
        width: Annotated[int, click.IntRange(min=1), "channels of the narrowest layer"] = 32,
    ) -> None:
        self.latent_dim, self.width = latent_dim, width

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sizes that are multiples of 4."""
        base = quarter(images, "dcgan-atienza-book")
        return (
            Generator(self.latent_dim, self.width, base, images.channels),
            Discriminator(self.width, base, images.channels),
        )

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), uniform in [-1, 1)."""
        return torch.rand(count, self.latent_dim, generator=generator, device=generator.device) * 2 - 1


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, 4 h, 4 w) in (0, 1)."""

    def __init__(self, latent_dim: int, width: int, base: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.base = base
        self.dense = Dense(latent_dim, base[0] * base[1] * 4 * width)
        self.bn1 = BatchNorm(4 * width, momentum=0.99, moving_variance="corrected")
        self.convt1 = SameConvTranspose2d(4 * width, 4 * width, 5, stride=2)
        self.bn2 = BatchNorm(4 * width, momentum=0.99, moving_variance="corrected")
        self.convt2 = SameConvTranspose2d(4 * width, 2 * width, 5, stride=2)
        self.bn3 = BatchNorm(2 * width, momentum=0.99, moving_variance="corrected")
        self.convt3 = SameConvTranspose2d(2 * width, width, 5)
        self.bn4 = BatchNorm(width, momentum=0.99, moving_variance="corrected")
        self.convt4 = SameConvTranspose2d(width, channels, 5)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = mirror(unflatten(self.dense(latents), *self.base))
        features = self.convt1(F.relu_(self.bn1(features)))
        features = self.convt2(F.relu_(self.bn2(features)))
        features = self.convt3(F.relu_(self.bn3(features)))
        return torch.sigmoid(mirror(self.convt4(F.relu_(self.bn4(features)))))


class Discriminator(nn.Module):
    """Images (N, C, 4 h, 4 w) -> logits (N, 1)."""

    def __init__(self, width: int, base: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.conv1 = SameConv2d(channels, width, 5, stride=2)
        self.conv2 = SameConv2d(width, 2 * width, 5, stride=2)
        self.conv3 = SameConv2d(2 * width, 4 * width, 5, stride=2)
        self.conv4 = SameConv2d(4 * width, 8 * width, 5)
        # the third stride rounds up: 7 -> 4
        self.dense = Dense(-(-base[0] // 2) * -(-base[1] // 2) * 8 * width, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = mirror(images)
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            features = convolution(F.leaky_relu_(features, 0.2))
        logits: Tensor = self.dense(flatten(mirror(features)))
        return logits
