"""The networks of R3GAN: residual blocks between bilinear doublings and halvings, without normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SLOPE = 0.2  # of LeakyReLU
EXPANSION = 2  # ratio of the channels inside a block to those outside
_Layer = TypeVar("_Layer", nn.Conv2d, nn.Linear)


class Stage(NamedTuple):
    """The blocks at one size: channels between them, groups of the 3x3 convolutions, number, and precision."""

    width: int
    groups: int
    blocks: int
    bfloat16: bool


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, 2^k h, 2^k w), unbounded, or in (-1, 1) with tanh at the end."""

    def __init__(
        self,
        latent_dim: int,
        stages: Sequence[Stage],
        base: tuple[int, int],
        channels: int,
        classes: int,
        embedding: int,
        end: str,
    ) -> None:
        super().__init__()
        width = stages[0].width
        self.basis = nn.Parameter(torch.randn(width, *base))
        self.linear = _scaled(nn.Linear(latent_dim + (embedding if classes else 0), width, bias=False))
        layers: list[nn.Module] = []
        for index, stage in enumerate(stages):
            if index:
                layers += _change(stages[index - 1].width, stage.width, stage.bfloat16)
                layers += [Doubling(stage.width, stage.bfloat16)]
            layers += _blocks(stage, stages)
        self.layers = nn.Sequential(*layers)
        self.aggregate = _scaled(Convolution(stages[-1].width, channels, 1, bias=False))
        self.embed = _scaled(nn.Linear(classes, embedding, bias=False)) if classes else None
        self.end = end

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are used only in a network with classes."""
        inputs = latents if self.embed is None else torch.cat([latents, self.embed(_one_hot(labels, self.embed))], 1)
        features = self.basis * self.linear(inputs)[:, :, None, None]  # (N, width, h, w)
        images: Tensor = self.aggregate(self.layers(features)).to(latents.dtype)
        return torch.tanh(images) if self.end == "tanh" else images


class Discriminator(nn.Module):
    """Images (N, C, 2^k h, 2^k w) -> logits (N, 1)."""

    def __init__(self, stages: Sequence[Stage], base: tuple[int, int], channels: int, classes: int) -> None:
        super().__init__()
        self.extract = _scaled(Convolution(channels, stages[-1].width, 1, stages[-1].bfloat16, bias=False))
        layers: list[nn.Module] = []
        for index in reversed(range(len(stages))):
            layers += _blocks(stages[index], stages)
            if index:
                layers += [Halving(stages[index].width)]
                layers += _change(stages[index].width, stages[index - 1].width, stages[index].bfloat16)
        self.layers = nn.Sequential(*layers)
        width = stages[0].width
        self.basis = _scaled(Convolution(width, width, base, groups=width, bias=False))
        self.linear = _scaled(nn.Linear(width, width if classes else 1, bias=False))
        self.embed = _scaled(nn.Linear(classes, width, bias=False), width**-0.5) if classes else None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are used only in a network with classes."""
        features = self.basis(self.layers(self.extract(images))).flatten(1)
        found: Tensor = self.linear(features.to(self.linear.weight.dtype))
        return found if self.embed is None else (found * self.embed(_one_hot(labels, self.embed))).sum(1, keepdim=True)


class Convolution(nn.Conv2d):
    """A convolution whose weights are cast to the precision of the features, or to bfloat16 with them."""

    def __init__(
        self, inputs: int, outputs: int, size: int | tuple[int, int], bfloat16: bool = False, **keywords: Any
    ) -> None:
        super().__init__(inputs, outputs, size, **keywords)
        self.in_bfloat16 = bfloat16

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        features = features.to(torch.bfloat16) if self.in_bfloat16 else features
        bias = None if self.bias is None else self.bias.to(features.dtype)
        convolved: Tensor = self._conv_forward(features, self.weight.to(features.dtype), bias)
        return convolved


class Block(nn.Module):
    """A residual block (N, width, H, W) -> the same shape; with its initial weights it is the identity."""

    def __init__(self, width: int, gain: float, groups: int, bfloat16: bool = False) -> None:
        super().__init__()
        inner = EXPANSION * width
        self.conv1 = _scaled(Convolution(width, inner, 1), gain)
        self.conv2 = _scaled(Convolution(inner, inner, 3, padding=1, groups=groups), gain)
        self.conv3 = _scaled(Convolution(inner, width, 1, bias=False), 0.0)
        self.in_bfloat16 = bfloat16

    def forward(self, features: Tensor) -> Tensor:
        """The features plus the output of the residual branch."""
        features = features.to(torch.bfloat16 if self.in_bfloat16 else self.conv1.weight.dtype)
        branch = F.leaky_relu(self.conv1(features), _SLOPE)
        branch = F.leaky_relu(self.conv2(branch), _SLOPE)
        total: Tensor = features + self.conv3(branch)
        return total


class Doubling(nn.Module):
    """(N, C, H, W) -> (N, C, 2 H, 2 W), bilinear: weights 3/4 and 1/4 along each axis, zeros beyond the border."""

    kernel: Tensor

    def __init__(self, channels: int, bfloat16: bool = False) -> None:
        super().__init__()
        self.register_buffer("kernel", 4 * _bilinear(channels), persistent=False)
        self.in_bfloat16 = bfloat16

    def forward(self, features: Tensor) -> Tensor:
        """Each channel is filtered separately."""
        features = features.to(torch.bfloat16) if self.in_bfloat16 else features
        kernel = self.kernel.to(features.dtype)
        # torch's bilinear kernels are slower, and on CUDA they add in no fixed order
        return F.conv_transpose2d(features, kernel, stride=2, padding=1, groups=len(kernel))


class Halving(nn.Module):
    """(N, C, 2 H, 2 W) -> (N, C, H, W), bilinear: weights 1/8, 3/8, 3/8, 1/8 along each axis, zeros beyond."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", _bilinear(channels), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Each channel is filtered separately."""
        kernel = self.kernel.to(features.dtype)
        return F.conv2d(features, kernel, stride=2, padding=1, groups=len(kernel))


def _bilinear(channels: int) -> Tensor:
    """(channels, 1, 4, 4) kernels, each with sum 1."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(line, line).repeat(channels, 1, 1, 1)


def _blocks(stage: Stage, stages: Sequence[Stage]) -> list[nn.Module]:
    # Fixup (Zhang et al. 2019, arXiv:1901.09321): L branches of m layers are scaled by L^(-1 / (2m - 2)), here m = 3
    gain = math.sqrt(2 / (1 + _SLOPE**2)) * sum(each.blocks for each in stages) ** -0.25
    return [Block(stage.width, gain, stage.groups, stage.bfloat16) for _ in range(stage.blocks)]


def _change(before: int, after: int, bfloat16: bool) -> list[nn.Module]:
    """The 1x1 convolution between two sizes of other widths; nothing where the widths are the same."""
    return [] if before == after else [_scaled(Convolution(before, after, 1, bfloat16, bias=False))]


def _one_hot(labels: Tensor, embed: nn.Linear) -> Tensor:
    """(N, classes) of labels (N,), in the dtype of the linear map that takes it."""
    return (labels[:, None] == torch.arange(embed.in_features, device=labels.device)).to(embed.weight.dtype)


def _scaled(layer: _Layer, gain: float = 1.0) -> _Layer:
    """Normal weights of standard deviation gain / sqrt(inputs), zero biases."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
