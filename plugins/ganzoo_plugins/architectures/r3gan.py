"""R3GAN: modern residual blocks without normalisation, kept stable by the loss and two gradient penalties."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import click
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.architectures._r3gan_files import R3GAN_CLASSES, read_r3gan
from ganzoo_plugins.architectures._r3gan_networks import EXPANSION, Discriminator, Generator, Stage
from ganzoo_plugins.architectures._r3gan_recipes import OWN, PUBLISHED
from ganzoo_plugins.layers.pyramid import base_size


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

    The recipes `cifar10`, `ffhq-64`, `ffhq-256`, `imagenet-32` and `imagenet-64` have the published networks, losses,
    schedules and augmentation, the pipe of StyleGAN2-ADA whose probability p rises. Flips are drawn at random for each
    real; the program adds a mirrored copy of each.
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
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {**PUBLISHED, **OWN}

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
            if not self.groups and channels * EXPANSION % 16:
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
        groups = _each("groups", self.groups, count, size) or [EXPANSION * width // 16 for width in widths]
        blocks = _each("blocks", self.blocks, count, size)
        for width, number in zip(widths, groups, strict=True):
            if EXPANSION * width % number:
                raise ganzoo.UsageError(f"r3gan: {EXPANSION * width} channels cannot be shared by {number} groups.")
        in_bfloat16 = [index >= count - self.bf16_stages for index in range(count)]
        return [Stage(*stage) for stage in zip(widths, groups, blocks, in_bfloat16, strict=True)]

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


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
