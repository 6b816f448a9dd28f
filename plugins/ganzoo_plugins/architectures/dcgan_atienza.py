"""DCGAN of Rowel Atienza's blog article, whose adversarial step also trains the discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.dropout import Dropout, LeakyReLUDropout
from ganzoo_plugins.layers.keras import (
    BatchNorm,
    Dense,
    MovingVariance,
    SameConv2d,
    SameConvTranspose2d,
    UpsampledSameConvTranspose2d,
    flatten,
    mirror,
    unflatten,
)
from ganzoo_plugins.layers.sizes import quarter


class DCGANAtienza(ganzoo.Architecture):
    """DCGAN of Atienza's 2017 article: upsampling and convolutions, RMSprop, a discriminator that is never frozen.

    Source: roatienza/Deep-Learning-Experiments, Experiments/Tensorflow/GAN/dcgan_mnist.py at efe15a1 (2017-06-04),
    MIT; the variant `march-2017` is its first version, ad11440 (2017-03-29).

    Generator: Dense, then 5x5 convolutions to `4 width`, `2 width`, `width` and the image's channels at stride 1 (the
    first two after nearest upsampling), sigmoid; batch norm (momentum 0.9) and ReLU between, dropout after the first.
    Discriminator: 5x5 convolutions `2 width` to `16 width`, three of stride 2, LeakyReLU 0.2 and dropout after each,
    Dense.

    As published, the turn `GD` updates the discriminator too, towards classifying fakes as real, with a second set of
    RMSprop accumulators. The variant `frozen` updates the generator alone, as its author intended. The discriminator is
    trained on fakes of a generator in inference mode, so the moving statistics matter: `keras=2.0.4` is the release of
    that time (population variance in the moving statistics, eps 1e-8); the variant `keras-2.15` is the last Keras 2
    (corrected variance after convolutions, eps 1e-7).
    """

    value_range = (0.0, 1.0)
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "mnist",
            "losses": "nonsaturating:reduction=mean",
            "turns": "D,GD",
            "generator_mode_for_discriminator": "inference",
            "generator_optimizer": "keras-rmsprop:lr=1e-4,decay=3e-8,eps=1e-8",
            "discriminator_optimizer": "keras-rmsprop:lr=2e-4,decay=6e-8,eps=1e-8",
            "batch_size": 256,
            "batch_order": "replacement",
            "subset": "last 55000",
            "length": "10000 steps",
            "samples_every": "500 steps",
            "checkpoint_every": "1000 steps",  # the program writes none
            "grid": "4x4",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "frozen": {"turns": "D,G"},
        "keras-2.15": {
            "architecture": "dcgan-atienza:keras=2.15",
            "generator_optimizer": "keras-rmsprop:lr=1e-4,decay=3e-8,eps=1e-7",
            "discriminator_optimizer": "keras-rmsprop:lr=2e-4,decay=6e-8,eps=1e-7",
        },
        "march-2017": {
            "generator_optimizer": "keras-rmsprop:lr=4e-4,decay=3e-8,eps=1e-8,clip_value=1.0",
            "discriminator_optimizer": "keras-rmsprop:lr=8e-4,decay=6e-8,eps=1e-8,clip_value=1.0",
        },
    }

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 100,
        width: Annotated[int, click.IntRange(min=1), "channels of the narrowest layer"] = 32,
        dropout: Annotated[float, click.FloatRange(0, 1, max_open=True), "of both networks"] = 0.4,
        keras: Annotated[Literal["2.0.4", "2.15"], "whose moving variance: see the description"] = "2.0.4",
    ) -> None:
        self.latent_dim, self.width, self.dropout, self.keras = latent_dim, width, dropout, keras

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sizes that are multiples of 4."""
        base = quarter(images, "dcgan-atienza")
        after_convolution: MovingVariance = "population" if self.keras == "2.0.4" else "corrected"
        return (
            Generator(
                self.latent_dim,
                self.width,
                base,
                images.channels,
                dropout=self.dropout,
                after_convolution=after_convolution,
            ),
            Discriminator(self.width, base, images.channels, self.dropout),
        )

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), uniform in [-1, 1)."""
        return torch.rand(count, self.latent_dim, generator=generator, device=generator.device) * 2 - 1


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, 4 h, 4 w) in (0, 1)."""

    def __init__(
        self,
        latent_dim: int,
        width: int,
        base: tuple[int, int],
        channels: int,
        *,
        dropout: float,
        after_convolution: MovingVariance,
    ) -> None:
        super().__init__()
        self.base = base
        features = base[0] * base[1] * 8 * width
        self.dense = Dense(latent_dim, features)
        self.bn0 = BatchNorm(features, momentum=0.9, moving_variance="population")
        self.dropout = Dropout(dropout)
        self.convt1 = UpsampledSameConvTranspose2d(8 * width, 4 * width, 5)
        self.bn1 = BatchNorm(4 * width, momentum=0.9, moving_variance=after_convolution)
        self.convt2 = UpsampledSameConvTranspose2d(4 * width, 2 * width, 5)
        self.bn2 = BatchNorm(2 * width, momentum=0.9, moving_variance=after_convolution)
        self.convt3 = SameConvTranspose2d(2 * width, width, 5)
        self.bn3 = BatchNorm(width, momentum=0.9, moving_variance=after_convolution)
        self.convt4 = SameConvTranspose2d(width, channels, 5)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = self.dropout(mirror(unflatten(F.relu_(self.bn0(self.dense(latents))), *self.base)))
        features = F.relu_(self.bn1(self.convt1(features)))
        features = F.relu_(self.bn2(self.convt2(features)))
        features = F.relu_(self.bn3(self.convt3(features)))
        return torch.sigmoid(mirror(self.convt4(features)))


class Discriminator(nn.Module):
    """Images (N, C, 4 h, 4 w) -> logits (N, 1)."""

    def __init__(self, width: int, base: tuple[int, int], channels: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = SameConv2d(channels, 2 * width, 5, stride=2)
        self.conv2 = SameConv2d(2 * width, 4 * width, 5, stride=2)
        self.conv3 = SameConv2d(4 * width, 8 * width, 5, stride=2)
        self.conv4 = SameConv2d(8 * width, 16 * width, 5)
        # the third stride rounds up: 7 -> 4
        self.dense = Dense(-(-base[0] // 2) * -(-base[1] // 2) * 16 * width, 1)
        self.leaky_relu_dropout = LeakyReLUDropout(0.2, dropout)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = mirror(images)
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            features = self.leaky_relu_dropout(convolution(features))
        logits: Tensor = self.dense(flatten(mirror(features)))
        return logits
