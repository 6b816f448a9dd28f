"""BEGAN: the discriminator is an autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.pyramid import base_size


class BEGAN(ganzoo.Architecture):
    """BEGAN: the discriminator is an autoencoder that learns to reconstruct real images, but not fakes.

    Source: Berthelot, Schumm and Metz 2017, "BEGAN: Boundary Equilibrium Generative Adversarial Networks"
    (arXiv:1703.10717), with details that the paper leaves open from carpedm20/BEGAN-tensorflow (1c234f5).

    Encoder: two 3x3 convolutions with ELU at each size, `width` channels and `width` more at each smaller size, halved
    by strides of 2, down to 7 to 13 pixels; a linear map to `embedding` numbers. Decoder: a linear map back, two 3x3
    convolutions with ELU at each size, `width` channels, doubled by repeating pixels. The generator is another decoder.

    How it fits the contract: the discriminator returns MINUS the mean absolute error of each image's reconstruction,
    so that higher means more real, as in all discriminators here. Every loss can be used with it, and
    `boundary-equilibrium` with every discriminator. These logits are never positive: `discriminator_accuracy` counts
    all reals as wrong and all fakes as right, so it is always 0.5 and has no meaning. Neither k nor the paper's measure
    of convergence, E L(real) + |gamma E L(real) - E L(fake)|, is among a run's scalars.

    Weights start Glorot uniform and biases at 0, and the convolutions of stride 2 pad at the bottom and the right, as
    in the program; in version 0.1 both were PyTorch's (`start=pytorch`).

    Departures: `width` 32 where the paper has 64 or 128; tanh ends the generator; no vanishing residuals; the learning
    rate is constant, 1e-4 and not 8e-5, because here it is a function of the images seen, while the paper halves it
    when its measure stalls, and the program every 100,000 steps. The paper trains on faces; this recipe trains on
    MNIST, for a length of our choice.
    """

    value_range = (-1.0, 1.0)
    former_options: ClassVar[Mapping[str, Any]] = {"start": "pytorch"}
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "mnist",
            "losses": "boundary-equilibrium:gamma=0.5,rate=1e-3",
            "turns": "D+G",
            "generator_optimizer": "adam:lr=1e-4,beta1=0.9,beta2=0.999",
            "discriminator_optimizer": "adam:lr=1e-4,beta1=0.9,beta2=0.999",
            "batch_size": 16,
            "batch_order": "stream",
            "length": "20 epochs",
            "grid": "8x8",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16; with gamma 0.5 all fakes
        # become the same bar
        "digits": {
            "architecture": "began:width=16,embedding=32",
            "dataset": "digits",
            "losses": "boundary-equilibrium:gamma=0.8,rate=0.02",
            "generator_optimizer": "adam:lr=3e-4,beta1=0.9,beta2=0.999",
            "discriminator_optimizer": "adam:lr=3e-4,beta1=0.9,beta2=0.999",
            "ema_half_life": 5000,
            "length": "100 epochs",
            "samples_every": "10 epochs",
            "checkpoint_every": "50 epochs",
            "grid": "4x8",
        },
    }

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 64,
        embedding: Annotated[int, click.IntRange(min=1), "numbers in the middle of the autoencoder"] = 64,
        width: Annotated[int, click.IntRange(min=1), "channels of a convolution (n in the paper)"] = 32,
        start: Annotated[
            Literal["program", "pytorch"], "initial weights, and padding of the convolutions of stride 2"
        ] = "program",
    ) -> None:
        self.latent_dim, self.embedding, self.width, self.start = latent_dim, embedding, width, start

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sizes of 7 to 13 times a power of 2."""
        height, width, doublings = base_size(images, "began", smallest=7)
        base = height, width
        autoencoder = nn.Sequential(
            encoder(images.channels, self.width, base, doublings, self.embedding),
            decoder(self.embedding, self.width, base, doublings, images.channels),
        )
        generator = decoder(self.latent_dim, self.width, base, doublings, images.channels)
        if self.start == "program":
            for module in (*autoencoder.modules(), *generator.modules()):
                _as_in_the_program(module)
        return Generator(generator), Discriminator(autoencoder)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), uniform in [-1, 1)."""
        return torch.rand(count, self.latent_dim, generator=generator, device=generator.device) * 2 - 1


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, H, W) in (-1, 1)."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        return torch.tanh(self.decoder(latents))


class Discriminator(nn.Module):
    """Images (N, C, H, W) -> logits (N,): minus the mean absolute error of the reconstruction, at most 0."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        errors: Tensor = (images - self.autoencoder(images)).abs().mean(dim=(1, 2, 3))
        return -errors


class Halving(nn.Conv2d):
    """(N, C, 2 H, 2 W) -> (N, C, H, W): a 3x3 convolution of stride 2.

    Zeros are padded at the top and the left, or, with `padding` 0, at the bottom and the right, as TensorFlow does.
    """

    def forward(self, features: Tensor) -> Tensor:
        """The sides are even."""
        return super().forward(F.pad(features, (0, 1, 0, 1)) if self.padding == (0, 0) else features)


class Doubling(nn.Module):
    """(N, C, H, W) -> (N, C, 2 H, 2 W): every pixel is repeated four times."""

    def forward(self, features: Tensor) -> Tensor:
        """Nearest-neighbour upsampling."""
        return F.interpolate(features, scale_factor=2, mode="nearest")


def decoder(inputs: int, width: int, base: tuple[int, int], doublings: int, channels: int) -> nn.Sequential:
    """(N, inputs) -> (N, channels, 2^doublings h, 2^doublings w), unbounded."""
    layers: list[nn.Module] = [
        nn.Linear(inputs, width * base[0] * base[1]),
        nn.Unflatten(1, (width, *base)),
        *_pair(width, width),
    ]
    for _ in range(doublings):
        layers += [Doubling(), *_pair(width, width)]
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))


def encoder(channels: int, width: int, base: tuple[int, int], halvings: int, outputs: int) -> nn.Sequential:
    """(N, channels, 2^halvings h, 2^halvings w) -> (N, outputs), unbounded."""
    widths = [width * (step + 1) for step in range(halvings + 1)]
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ELU(), *_pair(width, width)]
    for wide, wider in pairwise(widths):
        layers += [Halving(wide, wide, 3, stride=2, padding=1), nn.ELU(), *_pair(wide, wider)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * base[0] * base[1], outputs))


def _pair(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ELU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ELU(),
    )


def _as_in_the_program(module: nn.Module) -> None:
    """Give a layer the initial values and the padding of the program."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    if isinstance(module, Halving):
        module.padding = (0, 0)
