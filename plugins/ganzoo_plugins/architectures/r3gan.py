"""R3GAN: modern residual blocks without normalisation, kept stable by the loss and two gradient penalties."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.architectures._r3gan_files import R3GAN_CLASSES, read_r3gan
from ganzoo_plugins.layers.pyramid import base_size

_SLOPE = 0.2  # of LeakyReLU
_EXPANSION = 2  # ratio of the channels inside a block to those outside
_Layer = TypeVar("_Layer", nn.Conv2d, nn.Linear)


def _published(
    dataset: str, architecture: str, gamma: tuple[float, float], batch: int, images: int, half_life: int
) -> dict[str, Any]:
    """A published recipe. The program counts one of the two minibatches of a step, so its image counts are doubled."""
    end = f"by {2 * images}"
    adam = f"adam:lr=2e-4 -> 5e-5 {end},beta1=0.0,beta2=0.9 -> 0.99 {end}"
    return {
        "architecture": f"r3gan:{architecture}",
        "dataset": dataset,
        "losses": ["relativistic", *(f"{penalty}:gamma={gamma[0]} -> {gamma[1]} {end}" for penalty in ("r1", "r2"))],
        "preprocessing": "flip",
        "turns": "D,G.new",
        "generator_optimizer": adam,
        "discriminator_optimizer": adam,
        "batch_size": batch,
        "batch_order": "stream",
        "ema_half_life": f"0 -> {2 * half_life} {end}",
        "ema_buffers": "copied",
        "length": f"{2 * images} images",
        "samples_every": "500k images",
        "checkpoint_every": "5M images",
    }


#: the numbers of version 0.1: half the images, as the generator's turn had no minibatch of its own
_SMALL: Mapping[str, Any] = {"ema_half_life": 20_000, "ema_buffers": "averaged", "length": "25 epochs"}


class R3GAN(ganzoo.Architecture):
    """R3GAN: grouped residual blocks without normalisation, relativistic loss, R1 and R2.

    Source: Huang, Gokaslan, Kuleshov and Tompkin 2024, "The GAN is dead; long live the GAN! A modern GAN baseline"
    (arXiv:2501.05441), networks and training of brownvc/R3GAN (19a7ddf).

    Generator: a learnt 4x4 basis (7x7 for 28x28 images) times a linear map of the latents, then at each size residual
    blocks; between two sizes a 1x1 convolution, where the widths differ, and bilinear doubling; a 1x1 convolution to
    the image's channels. Discriminator: the same in reverse order, a 4x4 depthwise convolution and a linear map to one
    logit. A block is x + conv1x1(grouped conv3x3(conv1x1 to twice the width)), bias and LeakyReLU 0.2 after the first
    two; the last convolution starts at zero, and the initial weights of the others are scaled by (number of blocks in
    the network)^-1/4, so that no normalisation is needed. With `labels`, the generator's latents are joined by a linear
    map of the class, and the logit is the product of the features with another one.

    The generator's turn looks at a minibatch of reals of its own (`G.new`), as the loss depends on them. The EMA copies
    buffers. Images seen are counted in both minibatches of a step, where the program counts one of them: its numbers
    of images are doubled here.

    The recipes `cifar10`, `ffhq-64`, `ffhq-256`, `imagenet-32` and `imagenet-64` have the published networks, losses
    and schedules; flips are drawn at random for each real; the program adds a mirrored copy of each.
    Their augmentation (the pipe of StyleGAN2-ADA, whose share p rises) is not in them: add it as `--augmentation`.
    Departures of the recipe without a name: `width` is 32 where the paper has 768 and more, there are no labels, no
    flips, no augmentation and no schedules; gamma, batch size, EMA half-life and length are our choice. The recipes
    `small`, `mnist` and `digits` also end the generator with tanh, so that its images stay in range, and use the
    discriminator's reals in the generator's turn.
    """

    value_range = (-1.0, 1.0)
    bounded = False  # tanh is an option
    former_options: ClassVar[Mapping[str, Any]] = {"end": "tanh"}
    foreign_classes = R3GAN_CLASSES
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "stacked-mnist",
            "losses": ["relativistic", "r1:gamma=0.1", "r2:gamma=0.1"],
            "turns": "D,G.new",
            "generator_optimizer": "adam:lr=2e-4,beta1=0.0,beta2=0.99",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.0,beta2=0.99",
            "batch_size": 64,
            "batch_order": "stream",
            "ema_half_life": 40_000,
            "ema_buffers": "copied",
            "length": "50 epochs",
            "grid": "8x8",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": _published(
            "cifar10", "width=768,labels=true,bf16_stages=3", (0.05, 0.005), 512, 20_000_000, 5_000_000
        ),
        "ffhq-64": _published(
            "image-folder:path=ffhq,size=64", "widths=768x4+384,bf16_stages=4", (2.0, 0.2), 256, 20_000_000, 500_000
        ),
        "ffhq-256": _published(
            "image-folder:path=ffhq,size=256",
            "widths=768x4+384+192+96,bf16_stages=4",
            (150.0, 15.0),
            256,
            20_000_000,
            500_000,
        ),
        "imagenet-32": _published(
            "image-folder:path=imagenet,size=32",
            "width=1536,groups=96,labels=true,bf16_stages=3",
            (0.5, 0.05),
            4096,
            200_000_000,
            50_000_000,
        ),
        "imagenet-64": _published(
            "image-folder:path=imagenet,size=64",
            "width=1536,groups=96,labels=true,bf16_stages=4",
            (1.0, 0.1),
            4096,
            200_000_000,
            50_000_000,
        ),
        # not published: what this architecture was in version 0.1
        "small": {"architecture": "r3gan:end=tanh", "turns": "D,G", **_SMALL},
        "mnist": {"architecture": "r3gan:end=tanh", "dataset": "mnist", "turns": "D,G", **_SMALL},
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "r3gan:width=16,end=tanh",
            "dataset": "digits",
            "turns": "D,G",
            "generator_optimizer": "adam:lr=5e-4,beta1=0.0,beta2=0.99",
            "discriminator_optimizer": "adam:lr=5e-4,beta1=0.0,beta2=0.99",
            "ema_half_life": 5000,
            "ema_buffers": "averaged",
            "length": "100 epochs",
            "samples_every": "10 epochs",
            "checkpoint_every": "50 epochs",
            "tick_every": "20 steps",
            "grid": "4x8",
        },
    }

    suited: ClassVar[tuple[ganzoo.Suited, ...]] = (
        ganzoo.Suited(
            recipe="digits",
            sides=(8, 47),
            images=(1000, 1_000_000_000),
            device="cpu",
            with_classes={"labels": True},
            merit=5,
            needs=60_000,
            reason="trains stably, at a width that a CPU can train",
        ),
        *(
            ganzoo.Suited(
                recipe=recipe,
                sides=sides,
                images=(images, 1_000_000_000),
                device="cuda",
                options={"labels": False},
                with_classes={"labels": True},
                merit=9,
                needs=5_000_000,
                reason="draws the best images of all with time and images enough",
            )
            for recipe, sides, images in (
                ("cifar10", (24, 47), 20_000),
                ("ffhq-64", (48, 95), 20_000),
                ("ffhq-256", (192, 383), 20_000),
            )
        ),
    )

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 64,
        width: Annotated[int, click.IntRange(min=1), "channels between the blocks, at all sizes"] = 32,
        blocks: Annotated[str, "residual blocks at each size: one number, or one for each from the smallest on"] = "2",
        widths: Annotated[str, "one width for each size from the smallest on, 768x4+384; empty: width at all"] = "",
        groups: Annotated[
            str, "groups of the 3x3 convolutions, one number or one for each size; empty: 16 channels in a group"
        ] = "",
        labels: Annotated[bool, "whether the networks use the classes"] = False,
        embedding: Annotated[int, click.IntRange(min=1), "numbers of the class that join the latents"] = 64,
        end: Annotated[Literal["none", "tanh"], "what follows the generator's last convolution"] = "none",
        bf16_stages: Annotated[int, click.IntRange(min=0), "largest sizes that are computed in bfloat16"] = 0,
    ) -> None:
        self.latent_dim, self.width, self.embedding = latent_dim, width, embedding
        self.blocks, self.widths, self.groups = (
            _numbers(*item) for item in (("blocks", blocks), ("widths", widths), ("groups", groups))
        )
        self.labels, self.end, self.bf16_stages = labels, end, bf16_stages
        self.conditional = labels
        for channels in self.widths or (width,):
            if not self.groups and channels * _EXPANSION % 16:
                raise ganzoo.UsageError(
                    f"r3gan:width={channels} is not a multiple of 8, so its blocks have no groups of 16 channels; give "
                    f"32 or 64, or groups."
                )

    @classmethod
    def read_foreign(cls, file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
        """A network-snapshot-*.pkl of the program."""
        return read_r3gan(file)

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sizes of 4 to 7 times a power of 2."""
        height, width, doublings = base_size(images, "r3gan")
        stages = self._stages(doublings + 1, images)
        classes = images.classes if self.labels else 0
        return (
            Generator(self.latent_dim, stages, (height, width), images.channels, classes, self.embedding, self.end),
            Discriminator(stages, (height, width), images.channels, classes),
        )

    def _stages(self, count: int, images: ganzoo.ImageSpec) -> list[Stage]:
        """The stages of the generator, from the smallest size on."""
        size = f"images of {images.height}x{images.width} pixels have {count} sizes"
        widths = _each("widths", self.widths or (self.width,), count, size)
        groups = _each("groups", self.groups, count, size) or [_EXPANSION * width // 16 for width in widths]
        blocks = _each("blocks", self.blocks, count, size)
        for width, number in zip(widths, groups, strict=True):
            if _EXPANSION * width % number:
                raise ganzoo.UsageError(f"r3gan: {_EXPANSION * width} channels cannot be shared by {number} groups.")
        in_bfloat16 = [index >= count - self.bf16_stages for index in range(count)]
        return [Stage(*stage) for stage in zip(widths, groups, blocks, in_bfloat16, strict=True)]

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


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
        inner = _EXPANSION * width
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


def _numbers(option: str, text: str | int) -> tuple[int, ...]:
    """The numbers of a text such as 768x4+384; commas and spaces separate as a plus does."""
    found: list[int] = []
    for word in filter(None, re.split(r"[+,\s]+", str(text).strip())):
        match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d?))?", word)
        if not match:
            raise ganzoo.UsageError(
                f"r3gan:{option}={text} is not a list of numbers above 0; write 64, or one for each size from the "
                f"smallest on: 768x4+384."
            )
        found += [int(match[1])] * int(match[2] or 1)
    return tuple(found)


def _each(option: str, numbers: tuple[int, ...], count: int, size: str) -> list[int]:
    """One number for each of `count` sizes; a single number is for all."""
    if len(numbers) not in (0, 1, count):
        raise ganzoo.RefusedSpec(f"r3gan:{option} has {len(numbers)} numbers, and {size}; give 1 or {count}.")
    return list(numbers) * (count if len(numbers) == 1 else 1)


def _scaled(layer: _Layer, gain: float = 1.0) -> _Layer:
    """Normal weights of standard deviation gain / sqrt(inputs), zero biases."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
