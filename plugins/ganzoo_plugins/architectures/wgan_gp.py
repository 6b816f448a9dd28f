"""WGAN-GP with residual networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import click
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.architectures._mimicry import read_mimicry
from ganzoo_plugins.layers.resnet import (
    AUTHORS,
    MIMICRY,
    Program,
    ResNetFeatures,
    ResNetGenerator,
    doublings,
    halvings,
    linear,
)


class WGANGP(ganzoo.Architecture):
    """WGAN-GP of Gulrajani et al. 2017: residual networks, five critic steps, no batch norm in the critic.

    Source: arXiv:1704.00028, algorithm 1 and the CIFAR-10 ResNet of its appendix; igul222/improved_wgan_training,
    gan_cifar_resnet.py (9a4b20b), without its labels and its classifier.

    Generator: Dense to 4x4, three residual blocks that double, batch norm, 3x3 convolution, tanh. Critic: residual
    blocks, two that halve and two that do not, no normalisation, mean over positions, Dense. `width` is the channels of
    all layers: the published 128 is slow without a GPU, so 32 is the default, and the variant `cifar10` has 128.
    The number of doublings and halvings depends on the size, 16 to 64 pixels; images of 28 pixels begin and end at 7.

    The recipe has the learning rate of algorithm 1; the program's for CIFAR-10 is twice that and falls to zero, as in
    the variant `cifar10`, which also adds the program's noise of less than one grey level to the reals; the recipe has
    none. Departures: the program updates the generator with batches of 128, and draws samples with the batch's own
    statistics in batch norm; here both networks use batches of 64, and samples are drawn with the moving statistics.
    Adam's eps stands beside the corrected root, in the program beside the other one.

    `program=mimicry` has the networks of kwotsin/mimicry (a7fda06), whose checkpoints `ganzoo import` reads: bilinear
    doubling, and shortcuts of relu(x) in all blocks of the critic but the first. The variant `mimicry` trains them as
    that program does, with 256 channels in the generator.
    """

    value_range = (-1.0, 1.0)
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "cifar10",
            "losses": ["wasserstein", "gradient-penalty:weight=10"],
            "turns": "D,D,D,D,D,G",
            "generator_optimizer": "adam:lr=1e-4,beta1=0,beta2=0.9",
            "discriminator_optimizer": "adam:lr=1e-4,beta1=0,beta2=0.9",
            "batch_size": 64,
            "batch_order": "stream",
            "length": "100000 steps",
            "samples_every": "1000 steps",
            "checkpoint_every": "5000 steps",
            "grid": "8x8",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {
            "architecture": "wgan-gp:width=128",
            "dataset": "cifar10",
            "preprocessing": "dequantise",
            # 100,000 steps of five batches of 64
            "generator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
        },
        "mimicry": {
            "architecture": "wgan-gp:width=128,generator_width=256,program=mimicry",
            "dataset": "cifar10",
            "generator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
        },
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "wgan-gp:width=16",
            "dataset": "digits",
            "generator_optimizer": "adam:lr=5e-4,beta1=0,beta2=0.9",
            "discriminator_optimizer": "adam:lr=5e-4,beta1=0,beta2=0.9",
            "batch_size": 32,
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
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 128,
        width: Annotated[int, click.IntRange(min=1), "channels of all layers; 128 in the paper"] = 32,
        generator_width: Annotated[int, click.IntRange(min=0), "channels of the generator; 0: the width"] = 0,
        program: Annotated[
            Literal["authors", "mimicry"], "whose networks: of the paper's authors, or of mimicry"
        ] = "authors",
    ) -> None:
        self.latent_dim, self.width, self.generator_width = latent_dim, width, generator_width or width
        self.program = replace(MIMICRY, default_ends=True) if program == "mimicry" else AUTHORS

    @classmethod
    def read_foreign(cls, file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
        """A netG_*.pth or netD_*.pth of mimicry."""
        return read_mimicry(file, {"l5": "dense"})

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, critic) for any number of channels and sizes from 16 to 64 that are multiples of 4."""
        doubled = doublings(images, "wgan-gp")
        generator = ResNetGenerator(self.latent_dim, self.generator_width, images, doubled, program=self.program)
        return generator, Critic(self.width, images, self.program)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Critic(nn.Module):
    """Images (N, C, H, W) -> logits (N, 1)."""

    def __init__(self, width: int, images: ganzoo.ImageSpec, program: Program) -> None:
        super().__init__()
        self.features = ResNetFeatures(width, images.channels, halvings(images), spectral=False, program=program)
        self.dense = linear(width, 1, program=program)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        logits: Tensor = self.dense(self.features(images).mean(dim=(2, 3)))
        return logits
