"""R3GAN: modern residual blocks without normalisation, kept stable by the loss and two gradient penalties."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.pyramid import base_size

_SLOPE = 0.2  # of LeakyReLU
_EXPANSION = 2  # ratio of the channels inside a block to those outside
_GROUP = 16  # channels in each group of the 3x3 convolution
_Layer = TypeVar("_Layer", nn.Conv2d, nn.Linear)


class R3GAN(ganzoo.Architecture):
    """R3GAN at toy scale: grouped residual blocks without normalisation, relativistic loss, R1 and R2.

    Source: Huang, Gokaslan, Kuleshov and Tompkin 2024, "The GAN is dead; long live the GAN! A modern GAN baseline"
    (arXiv:2501.05441), networks of brownvc/R3GAN.

    Generator: a learnt 4x4 basis (7x7 for 28x28 images) times a linear map of the latents, then at each size `blocks`
    residual blocks, bilinear doubling between sizes, 1x1 convolution to the image's channels. Discriminator: the same
    in reverse order, a 4x4 depthwise convolution and a linear map to one logit. A block is x + conv1x1(conv3x3 in
    groups of 16 channels(conv1x1 to `2 width`)), bias and LeakyReLU 0.2 after the first two; the last convolution
    starts at zero, and the initial weights of the others are scaled by (number of blocks in the network)^-1/4, so that
    no normalisation is needed.

    Departures: `width` 32 where the paper has 768 and more; tanh ends the generator, so that its images stay in range;
    no labels and no augmentation. The published schedules (for CIFAR-10 gamma falls from 0.05 to 0.005, the learning
    rate from 2e-4 to 5e-5, and beta2 rises from 0.9 to 0.99, over tens of millions of images) are left out: all are
    constant here, and gamma, batch size, EMA half-life and length are our choice.
    """

    value_range = (-1.0, 1.0)
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "stacked-mnist",
            "losses": ["relativistic", "r1:gamma=0.1", "r2:gamma=0.1"],
            "turns": "D,G",
            "generator_optimizer": "adam:lr=2e-4,beta1=0.0,beta2=0.99",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.0,beta2=0.99",
            "batch_size": 64,
            "batch_order": "stream",
            "ema_half_life": 20_000,
            "length": "25 epochs",
            "grid": "8x8",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mnist": {"dataset": "mnist", "length": "25 epochs"},
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "r3gan:width=16",
            "dataset": "digits",
            "generator_optimizer": "adam:lr=5e-4,beta1=0.0,beta2=0.99",
            "discriminator_optimizer": "adam:lr=5e-4,beta1=0.0,beta2=0.99",
            "ema_half_life": 5000,
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
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 64,
        width: Annotated[int, click.IntRange(min=8), "channels between the blocks, a multiple of 8"] = 32,
        blocks: Annotated[int, click.IntRange(min=1), "residual blocks at each size"] = 2,
    ) -> None:
        if width * _EXPANSION % _GROUP:
            raise ganzoo.UsageError(f"r3gan:width={width} is not a multiple of {_GROUP // _EXPANSION}; give 32 or 64.")
        self.latent_dim, self.width, self.blocks = latent_dim, width, blocks

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sizes of 4 to 7 times a power of 2."""
        height, width, doublings = base_size(images, "r3gan")
        stages = doublings + 1
        return (
            Generator(self.latent_dim, self.width, (height, width), stages, self.blocks, images.channels),
            Discriminator(self.width, (height, width), stages, self.blocks, images.channels),
        )

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, 2^k h, 2^k w) in (-1, 1)."""

    def __init__(
        self, latent_dim: int, width: int, base: tuple[int, int], stages: int, blocks: int, channels: int
    ) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(width, *base))
        self.linear = _scaled(nn.Linear(latent_dim, width, bias=False))
        self.layers = _blocks(width, stages, blocks, between=Doubling)
        self.aggregate = _scaled(nn.Conv2d(width, channels, 1, bias=False))

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = self.basis * self.linear(latents)[:, :, None, None]  # (N, width, h, w)
        return torch.tanh(self.aggregate(self.layers(features)))


class Discriminator(nn.Module):
    """Images (N, C, 2^k h, 2^k w) -> logits (N, 1)."""

    def __init__(self, width: int, base: tuple[int, int], stages: int, blocks: int, channels: int) -> None:
        super().__init__()
        self.extract = _scaled(nn.Conv2d(channels, width, 1, bias=False))
        self.layers = _blocks(width, stages, blocks, between=Halving)
        self.basis = _scaled(nn.Conv2d(width, width, base, groups=width, bias=False))
        self.linear = _scaled(nn.Linear(width, 1, bias=False))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        logits: Tensor = self.linear(self.basis(self.layers(self.extract(images))).flatten(1))
        return logits


class Block(nn.Module):
    """A residual block (N, width, H, W) -> the same shape; with its initial weights it is the identity."""

    def __init__(self, width: int, gain: float) -> None:
        super().__init__()
        inner = _EXPANSION * width
        self.conv1 = _scaled(nn.Conv2d(width, inner, 1), gain)
        self.conv2 = _scaled(nn.Conv2d(inner, inner, 3, padding=1, groups=inner // _GROUP), gain)
        self.conv3 = _scaled(nn.Conv2d(inner, width, 1, bias=False), 0.0)

    def forward(self, features: Tensor) -> Tensor:
        """The features plus the output of the residual branch."""
        branch = F.leaky_relu(self.conv1(features), _SLOPE)
        branch = F.leaky_relu(self.conv2(branch), _SLOPE)
        total: Tensor = features + self.conv3(branch)
        return total


class Doubling(nn.Module):
    """(N, C, H, W) -> (N, C, 2 H, 2 W), bilinear: weights 3/4 and 1/4 along each axis, zeros beyond the border."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", 4 * _bilinear(channels), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Each channel is filtered separately."""
        # torch's bilinear kernels are slower, and on CUDA they add in no fixed order
        return F.conv_transpose2d(features, self.kernel, stride=2, padding=1, groups=len(self.kernel))


class Halving(nn.Module):
    """(N, C, 2 H, 2 W) -> (N, C, H, W), bilinear: weights 1/8, 3/8, 3/8, 1/8 along each axis, zeros beyond."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", _bilinear(channels), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Each channel is filtered separately."""
        return F.conv2d(features, self.kernel, stride=2, padding=1, groups=len(self.kernel))


def _bilinear(channels: int) -> Tensor:
    """(channels, 1, 4, 4) kernels, each with sum 1."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(line, line).repeat(channels, 1, 1, 1)


def _blocks(width: int, stages: int, blocks: int, between: type[Doubling] | type[Halving]) -> nn.Sequential:
    # Fixup (Zhang et al. 2019, arXiv:1901.09321): L branches of m layers are scaled by L^(-1 / (2m - 2)), here m = 3
    gain = math.sqrt(2 / (1 + _SLOPE**2)) * (stages * blocks) ** -0.25
    layers: list[nn.Module] = []
    for stage in range(stages):
        layers += [between(width)] if stage else []
        layers += [Block(width, gain) for _ in range(blocks)]
    return nn.Sequential(*layers)


def _scaled(layer: _Layer, gain: float = 1.0) -> _Layer:
    """Normal weights of standard deviation gain / sqrt(inputs), zero biases."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
