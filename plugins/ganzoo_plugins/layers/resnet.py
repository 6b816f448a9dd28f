"""Residual networks of Gulrajani et al. 2017 (arXiv:1704.00028) and Miyato et al. 2018 (arXiv:1802.05957).

Both papers use the same networks: igul222/improved_wgan_training, gan_cifar_resnet.py (9a4b20b), and
pfnet-research/sngan_projection, gen_models/resnet_32.py and dis_models/snresnet_32.py (175be17). They differ in width,
in spectral norm and in how the features of the last block become logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import ganzoo
from ganzoo_plugins.layers import spectral as power_iteration

#: gain of the initial weights of 3x3 convolutions in blocks; shortcuts, the first and the last layer have 1
_GAIN = 2**0.5


#: whose program the networks follow: that of the paper's authors, mimicry, or StudioGAN
ProgramName = Literal["authors", "mimicry", "studiogan"]


@dataclass(frozen=True)
class Program:
    """What the networks of another program do differently; the defaults are those of the papers' authors.

    mimicry (kwotsin/mimicry, a7fda06) doubles images bilinearly, and rectifies features in place, so that the shortcuts
    of all discriminator blocks but the first see relu(x). StudioGAN (POSTECH-CVLab/PyTorch-StudioGAN, 947b35e) doubles
    them by repetition, and rectifies in place as well.
    """

    #: added to the variance in the batch norms of the SNGAN generators; Chainer's default, and PyTorch's
    batch_norm_eps: float = 2e-5
    bilinear: bool = False
    rectified_shortcuts: bool = False
    #: whether biases keep PyTorch's initial values, uniform within 1 / sqrt(inputs); otherwise they start at 0
    random_biases: bool = False
    #: whether shortcuts and the generator's last convolution keep PyTorch's initial weights
    default_ends: bool = False
    #: whether scales of the conditional batch norm are drawn from N(1, 0.02^2); otherwise they start at 1
    random_scales: bool = False
    #: whether both vectors of the power iteration are kept, v is computed first, and no iteration precedes the training
    both_vectors: bool = False
    #: whether the discriminator's last layer has a bias
    last_bias: bool = False
    #: whether the linear layer and the table of a projection discriminator have a power iteration of mimicry's own,
    #: which keeps one vector; otherwise that of the convolutions
    own_power_iteration: bool = False


AUTHORS = Program()
MIMICRY = Program(
    batch_norm_eps=1e-5,
    bilinear=True,
    rectified_shortcuts=True,
    random_biases=True,
    random_scales=True,
    both_vectors=True,
    last_bias=True,
    own_power_iteration=True,
)
STUDIOGAN = Program(batch_norm_eps=1e-4, rectified_shortcuts=True, both_vectors=True, last_bias=True)
PROGRAMS = {"authors": AUTHORS, "mimicry": MIMICRY, "studiogan": STUDIOGAN}


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm with a scale and shift for each class (Dumoulin et al. 2017, arXiv:1610.07629)."""

    def __init__(self, channels: int, classes: int, program: Program = AUTHORS) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Embedding(classes, channels)
        self.shift = nn.Embedding(classes, channels)
        nn.init.normal_(self.scale.weight, 1.0, 0.02) if program.random_scales else nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(N, C, H, W), labels (N,) int64 -> the same shape as the features."""
        scale, shift = (embedding(labels)[:, :, None, None] for embedding in (self.scale, self.shift))
        normalised: Tensor = self.norm(features) * scale + shift
        return normalised


class GeneratorBlock(nn.Module):
    """(N, C, H, W) -> (N, out, 2 H, 2 W): batch norm, ReLU, doubling, 3x3, batch norm, ReLU, 3x3; a 1x1 shortcut.

    With `classes` the batch norms are conditional.
    """

    def __init__(self, in_channels: int, out_channels: int, classes: int = 0, program: Program = AUTHORS) -> None:
        super().__init__()
        self.doubling = "bilinear" if program.bilinear else "nearest"
        self.bn1 = _batch_norm(in_channels, classes, program)
        self.conv1 = convolution(in_channels, out_channels, 3, gain=_GAIN, program=program)
        self.bn2 = _batch_norm(out_channels, classes, program)
        self.conv2 = convolution(out_channels, out_channels, 3, gain=_GAIN, program=program)
        self.shortcut = convolution(in_channels, out_channels, 1, program=program, end=True)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """`labels` are used only in a conditional block."""
        inner = self.conv1(self._double(F.relu(_normalise(self.bn1, features, labels))))
        inner = self.conv2(F.relu(_normalise(self.bn2, inner, labels)))
        # a 1x1 convolution before the doubling gives the same numbers in a quarter of the time
        total: Tensor = inner + self._double(self.shortcut(features))
        return total

    def _double(self, features: Tensor) -> Tensor:
        return F.interpolate(features, scale_factor=2, mode=self.doubling)


class DiscriminatorBlock(nn.Module):
    """(N, C, H, W) -> (N, out, H, W), or halved: ReLU, 3x3, ReLU, 3x3, mean over 2x2; a 1x1 shortcut where needed.

    The input of the `first` block is images, to which no ReLU is applied. No normalisation of features; with `spectral`
    all weights have spectral norm 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        halve: bool,
        first: bool = False,
        spectral: bool = False,
        program: Program = AUTHORS,
    ) -> None:
        super().__init__()
        self.first, self.rectified_shortcut = first, program.rectified_shortcuts and not first
        hidden = out_channels if first else in_channels
        self.conv1 = convolution(in_channels, hidden, 3, gain=_GAIN, spectral=spectral, program=program)
        self.conv2 = convolution(hidden, out_channels, 3, gain=_GAIN, spectral=spectral, program=program)
        straight = not halve and in_channels == out_channels
        self.shortcut = (
            nn.Identity()
            if straight
            else convolution(in_channels, out_channels, 1, spectral=spectral, program=program, end=True)
        )
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) features; a block that halves needs even sides."""
        rectified = features if self.first else F.relu(features)
        inner = self.conv2(F.relu(self.conv1(rectified)))
        straight = rectified if self.rectified_shortcut else features
        # a 1x1 convolution after the mean gives the same as one before it, in less time
        total: Tensor = self.pool(inner) + self.shortcut(self.pool(straight))
        return total


class ResNetGenerator(nn.Module):
    """Latents (N, Z), labels (N,) -> images (N, C, H, W) in (-1, 1): Dense, doubling blocks, batch norm, 3x3, tanh."""

    def __init__(
        self,
        latent_dim: int,
        width: int,
        images: ganzoo.ImageSpec,
        doublings: int,
        classes: int = 0,
        program: Program = AUTHORS,
    ) -> None:
        super().__init__()
        self.base = (width, images.height >> doublings, images.width >> doublings)
        self.dense = linear(latent_dim, width * self.base[1] * self.base[2], program=program)
        self.blocks = nn.ModuleList([GeneratorBlock(width, width, classes, program) for _ in range(doublings)])
        self.bn = nn.BatchNorm2d(width)
        self.conv = convolution(width, images.channels, 3, program=program, end=True)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are used only in a conditional network."""
        features = self.dense(latents).view(-1, *self.base)
        for block in self.blocks:
            features = block(features, labels)
        return torch.tanh(self.conv(F.relu(self.bn(features))))


class ResNetFeatures(nn.Module):
    """Images (N, C, H, W) -> features (N, width, h, w) after a ReLU: halving blocks, then two that keep the size."""

    def __init__(self, width: int, channels: int, halvings: int, *, spectral: bool, program: Program = AUTHORS) -> None:
        super().__init__()
        same = {"spectral": spectral, "program": program}
        blocks = [DiscriminatorBlock(channels, width, halve=True, first=True, **same)]  # type: ignore[arg-type]
        for halve in [True] * (halvings - 1) + [False, False]:
            blocks.append(DiscriminatorBlock(width, width, halve=halve, **same))  # type: ignore[arg-type]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Features of all positions; the discriminator takes their mean or their sum."""
        return F.relu(self.blocks(images))


def doublings(images: ganzoo.ImageSpec, architecture: str) -> int:
    """Number of doublings of `ResNetGenerator`: 32 pixels begin at 4 as in the papers, 28 at 7. Raises RefusedSpec."""
    height, width, count = images.height, images.width, 0
    if not all(16 <= side <= 64 and side % 4 == 0 for side in (height, width)):
        raise ganzoo.RefusedSpec(
            f"{architecture} needs a height and a width from 16 to 64 that are multiples of 4, not {height}x{width}; "
            f"give the dataset a size, for example `mnist:size=32`."
        )
    while height % 2 == width % 2 == 0 and min(height, width) > 4 and max(height, width) > 7:
        height, width, count = height // 2, width // 2, count + 1
    return count


def halvings(images: ganzoo.ImageSpec) -> int:
    """Number of halvings of `ResNetFeatures`: 32 pixels end at 8 as in the papers, 28 at 7."""
    height, width, count = images.height, images.width, 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 14:
        height, width, count = height // 2, width // 2, count + 1
    return count


def convolution(
    in_channels: int,
    out_channels: int,
    size: int,
    *,
    gain: float = 1.0,
    spectral: bool = False,
    program: Program = AUTHORS,
    end: bool = False,
) -> nn.Module:
    """A convolution that keeps the size, Glorot uniform weights, zero biases; with spectral norm 1 if `spectral`.

    `end` marks a shortcut or the generator's last convolution: see `Program.default_ends`.
    """
    layer = nn.Conv2d(in_channels, out_channels, size, padding=size // 2)
    if not (end and program.default_ends):
        nn.init.xavier_uniform_(layer.weight, gain)
    if not program.random_biases:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return spectral_norm(layer, program) if spectral else layer


def linear(
    in_features: int, out_features: int, *, bias: bool = True, spectral: bool = False, program: Program = AUTHORS
) -> nn.Module:
    """A linear layer with Glorot uniform weights and zero biases; with spectral norm 1 if `spectral`."""
    layer = nn.Linear(in_features, out_features, bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias and not program.random_biases:
        nn.init.zeros_(layer.bias)
    return spectral_norm(layer, program) if spectral else layer


def spectral_norm(layer: nn.Module, program: Program = AUTHORS) -> nn.Module:
    """The layer with its weight divided by an estimate of its largest singular value (Miyato et al., algorithm 1).

    Kernels are taken as matrices (out, in * height * width). The two vectors of the power iteration are buffers: each
    forward in training mode does one iteration, in evaluation mode they do not change.
    """
    if program.both_vectors:
        return power_iteration.spectral_norm(layer, stored_v=True)
    return parametrizations.spectral_norm(layer)


def _batch_norm(channels: int, classes: int, program: Program) -> nn.Module:
    return ConditionalBatchNorm2d(channels, classes, program) if classes else nn.BatchNorm2d(channels)


def _normalise(norm: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    normalised: Tensor = norm(features, labels) if isinstance(norm, ConditionalBatchNorm2d) else norm(features)
    return normalised
