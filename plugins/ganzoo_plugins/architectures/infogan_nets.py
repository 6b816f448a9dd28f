"""The networks of InfoGAN, with which "Are GANs Created Equal?" compared losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.keras import BatchNorm
from ganzoo_plugins.layers.sizes import quarter

_FIVE_TO_ONE = "D,D,D,D,D,G"


class InfoGANNets(ganzoo.Architecture):
    """Networks of InfoGAN, with which "Are GANs Created Equal?" (Lucic et al. 2018) compared losses.

    Source: arXiv:1711.10337; google/compare_gan at 623f646, src/gans/abstract_gan.py and src/params.py. The networks
    are those of Chen et al. 2016 (arXiv:1606.03657), appendix C, without the codes.

    Generator: Dense 1024, Dense to a quarter of the size in `2 width` channels, 4x4 transposed convolutions of stride 2
    to `width` and the image's channels, sigmoid; batch norm and LeakyReLU 0.2 between, as in the program (InfoGAN has
    ReLU). Discriminator: 4x4 convolutions of stride 2 to `width` and `2 width`, Dense 1024, Dense; LeakyReLU
    0.2, batch norm after all but the first. Latents are uniform, weights normal with deviation 0.02.

    The variants are the losses of the paper's table, with the defaults of the program. These are where its search for
    hyperparameters started; what it found was not published. `wasserstein` clips the weights, `wgan-gp` has no batch
    norm in the discriminator. Departures: the program updates both networks with the same latents (except `wgan-gp`),
    counts 50,000 images as an epoch, and uses the sigmoid of the logits in `least-squares` and `dragan`. Here latents
    are drawn anew, an epoch is the whole dataset, and both use the logits. With five turns of the discriminator the
    program updates the generator after the 1st, the 2nd, the 7th, the 12th, ... of them, here after each five. Adam's
    eps stands beside the corrected root, in the program beside the other one. The table also has BEGAN, here the
    architecture `began`, and a VAE.
    """

    value_range = (0.0, 1.0)
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "mnist",
            "losses": "nonsaturating",
            "turns": "D,G",
            "generator_optimizer": "adam:lr=5e-5,beta1=0,beta2=0.999",
            "discriminator_optimizer": "adam:lr=5e-5,beta1=0,beta2=0.999",
            "batch_size": 64,
            "length": "20 epochs",
            "samples_every": "1 epoch",
            "checkpoint_every": "5 epochs",
            "grid": "8x8",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "nonsaturating": {},
        "minimax": {"losses": "minimax"},
        "least-squares": {
            "losses": "least-squares",
            "generator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
        },
        "wasserstein": {
            "losses": "wasserstein",
            "turns": _FIVE_TO_ONE,
            "generator_optimizer": "adam:lr=5e-5,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=5e-5,beta1=0.5,beta2=0.999,clip=0.01",
        },
        "wgan-gp": {
            "architecture": "infogan-nets:batch_norm=false",
            "losses": ["wasserstein", "gradient-penalty:weight=10,eps=1e-4"],
            "turns": _FIVE_TO_ONE,
            "generator_optimizer": "adam:lr=1e-4,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=1e-4,beta1=0.5,beta2=0.999",
        },
        "dragan": {
            "losses": ["nonsaturating", "dragan:weight=10,eps=1e-4"],
            "generator_optimizer": "adam:lr=1e-4,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=1e-4,beta1=0.5,beta2=0.999",
        },
    }

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 64,
        width: Annotated[int, click.IntRange(min=1), "channels of the narrowest layer"] = 64,
        units: Annotated[int, click.IntRange(min=1), "of the dense layers"] = 1024,
        batch_norm: Annotated[bool, "in the discriminator; the generator always has it"] = True,
    ) -> None:
        self.latent_dim, self.width, self.units, self.batch_norm = latent_dim, width, units, batch_norm

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sizes that are multiples of 4."""
        base = quarter(images, "infogan-nets")
        return (
            Generator(self.latent_dim, self.width, self.units, base, images.channels),
            Discriminator(self.width, self.units, base, images.channels, self.batch_norm),
        )

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), uniform in [-1, 1)."""
        return torch.rand(count, self.latent_dim, generator=generator, device=generator.device) * 2 - 1


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, 4 h, 4 w) in (0, 1)."""

    def __init__(self, latent_dim: int, width: int, units: int, base: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.base = (2 * width, *base)
        features = 2 * width * base[0] * base[1]
        self.dense1 = _initialised(nn.Linear(latent_dim, units))
        self.bn1 = _batch_norm(units)
        self.dense2 = _initialised(nn.Linear(units, features))
        self.bn2 = _batch_norm(features)
        self.convt1 = _initialised(nn.ConvTranspose2d(2 * width, width, 4, 2, padding=1))
        self.bn3 = _batch_norm(width)
        self.convt2 = _initialised(nn.ConvTranspose2d(width, channels, 4, 2, padding=1))

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = F.leaky_relu(self.bn1(self.dense1(latents)), 0.2)
        features = F.leaky_relu(self.bn2(self.dense2(features)), 0.2).view(-1, *self.base)
        features = F.leaky_relu(self.bn3(self.convt1(features)), 0.2)
        return torch.sigmoid(self.convt2(features))


class Discriminator(nn.Module):
    """Images (N, C, 4 h, 4 w) -> logits (N, 1)."""

    def __init__(self, width: int, units: int, base: tuple[int, int], channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = _initialised(nn.Conv2d(channels, width, 4, 2, padding=1))
        self.conv2 = _initialised(nn.Conv2d(width, 2 * width, 4, 2, padding=1))
        self.bn2 = _batch_norm(2 * width) if batch_norm else nn.Identity()
        self.dense1 = _initialised(nn.Linear(2 * width * base[0] * base[1], units))
        self.bn3 = _batch_norm(units) if batch_norm else nn.Identity()
        self.dense2 = _initialised(nn.Linear(units, 1))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = F.leaky_relu(self.conv1(images), 0.2)
        features = F.leaky_relu(self.bn2(self.conv2(features)), 0.2)
        features = F.leaky_relu(self.bn3(self.dense1(features.flatten(1))), 0.2)
        logits: Tensor = self.dense2(features)
        return logits


def _initialised(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    if isinstance(layer, nn.Conv2d):  # the program truncates the normal distribution only for these
        nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
    else:
        nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _batch_norm(channels: int) -> BatchNorm:
    """tf.contrib.layers.batch_norm of TensorFlow 1, in its implementation that is not fused."""
    return BatchNorm(channels, momentum=0.999, moving_variance="population", eps=1e-3)
