"""SNGAN: a discriminator whose layers have spectral norm 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import click
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.architectures._mimicry import read_mimicry
from ganzoo_plugins.architectures._studiogan_files import is_studiogan, read_studiogan_resnet
from ganzoo_plugins.layers.batch_norm import set_eps
from ganzoo_plugins.layers.resnet import (
    PROGRAMS,
    Program,
    ProgramName,
    ResNetFeatures,
    ResNetGenerator,
    doublings,
    halvings,
    linear,
)


class SNGAN(ganzoo.Architecture):
    """SNGAN of Miyato et al. 2018: residual networks, spectral norm in the discriminator, hinge loss.

    Source: arXiv:1802.05957, section 4 and table 4; pfnet-research/sngan_projection,
    configs/sn_cifar10_unconditional.yml with gen_models/resnet_32.py and dis_models/snresnet_32.py (e84b1a5).

    Generator: Dense to 4x4, three residual blocks that double, all of `2 width` channels, batch norm, 3x3 convolution,
    tanh. Discriminator: residual blocks of `width` channels, two that halve and two that do not, sum over positions,
    Dense without a bias. Every weight is divided by its largest singular value, which a power iteration estimates: one
    iteration in every forward of the discriminator, also in the generator's update, as in the program. The number of
    doublings and halvings depends on the size, 16 to 64 pixels; images of 28 pixels begin and end at 7.

    The learning rate falls to zero over the length of the run: 50,000 steps of five batches of 64. Departure: the
    program updates the generator with batches of 128, and begins with a generator's turn; here both networks use 64,
    and the discriminator's five turns come first. Adam's eps stands beside the corrected root, in Chainer beside the
    other one. `power_iteration=pytorch` is the spectral norm of version 0.1: u = W v before v = W^T u, and 15
    iterations before the training; logits differ from the program's until the vectors have converged.

    `program=mimicry` has the networks of kwotsin/mimicry (a7fda06), whose checkpoints `ganzoo import` reads: bilinear
    doubling, shortcuts of relu(x) in all blocks of the discriminator but the first, a bias in its last layer, and the
    variant `mimicry` trains them as that program does. `program=studiogan` has those of POSTECH-CVLab/PyTorch-StudioGAN
    (947b35e) at 32 pixels, whose checkpoints are read too: shortcuts of relu(x), eps of 1e-4, and that bias.
    """

    value_range = (-1.0, 1.0)
    former_options: ClassVar[Mapping[str, Any]] = {"batch_norm_eps": 1e-5, "power_iteration": "pytorch"}
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "cifar10",
            "losses": "hinge",
            "preprocessing": "dequantise",
            "turns": "D,D,D,D,D,G",
            "generator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
            "batch_size": 64,
            "batch_order": "stream",
            "length": "50000 steps",
            "samples_every": "1000 steps",
            "checkpoint_every": "5000 steps",
            "grid": "8x8",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # 100,000 steps of five batches of 64; five turns of the discriminator, then one of the generator
        "mimicry": {
            "architecture": "sngan:program=mimicry",
            "dataset": "cifar10",
            "preprocessing": "",
            "length": "100000 steps",
        },
        # StudioGAN's settings for CIFAR-10 (947b35e, src/config.py), without classes; its own SNGAN has classes.
        # Weights begin as in the other variants, the program's orthogonally
        "studiogan": {
            "architecture": "sngan:program=studiogan",
            "dataset": "cifar10",
            "preprocessing": "flip",
            "generator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "length": "100000 steps",
        },
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "sngan:width=16",
            "dataset": "digits",
            "turns": "D,D,G",
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

    suited: ClassVar[tuple[ganzoo.Suited, ...]] = (
        ganzoo.Suited(
            recipe="digits",
            sides=(16, 47),
            images=(1000, 1_000_000_000),
            device="cpu",
            merit=4,
            needs=40_000,
            reason="is stable and quick at a width that a CPU can train",
        ),
        ganzoo.Suited(
            sides=(16, 64),
            images=(10_000, 1_000_000_000),
            device="cuda",
            merit=6,
            needs=1_500_000,
            reason="is stable, and needs less time than larger networks",
        ),
    )

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 128,
        width: Annotated[int, click.IntRange(min=1), "channels of the discriminator; the generator has twice"] = 128,
        generator_width: Annotated[int, click.IntRange(min=0), "channels of the generator; 0: twice the width"] = 0,
        program: Annotated[
            ProgramName, "whose networks: of the paper's authors, of mimicry, or of StudioGAN"
        ] = "authors",
        batch_norm_eps: Annotated[
            float, click.FloatRange(min=0), "added to the variance in batch norm; 0: the program's, 2e-5 or 1e-5"
        ] = 0.0,
        power_iteration: Annotated[
            Literal["program", "pytorch"], "of the authors' networks: as in their program, or as PyTorch has it"
        ] = "program",
    ) -> None:
        self.latent_dim, self.width, self.generator_width = latent_dim, width, generator_width or 2 * width
        self.program = PROGRAMS[program]
        self.batch_norm_eps = batch_norm_eps
        self.power_iteration = power_iteration
        if power_iteration == "program":  # that of the other programs is it too
            self.program = replace(self.program, both_vectors=True)

    @classmethod
    def read_foreign(cls, file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
        """A netG_*.pth or netD_*.pth of mimicry, or a model=*.pth of StudioGAN."""
        if is_studiogan(file):
            return read_studiogan_resnet(file, "sngan", classes=False)
        return read_mimicry(file, {"l5": "dense"})

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sizes from 16 to 64 that are multiples of 4."""
        doubled = doublings(images, "sngan")
        generator = ResNetGenerator(self.latent_dim, self.generator_width, images, doubled, program=self.program)
        set_eps(generator, self.batch_norm_eps or self.program.batch_norm_eps)
        return generator, Discriminator(self.width, images, self.program)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Discriminator(nn.Module):
    """Images (N, C, H, W) -> logits (N, 1)."""

    def __init__(self, width: int, images: ganzoo.ImageSpec, program: Program) -> None:
        super().__init__()
        self.features = ResNetFeatures(width, images.channels, halvings(images), spectral=True, program=program)
        self.dense = linear(width, 1, bias=program.last_bias, spectral=True, program=program)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        logits: Tensor = self.dense(self.features(images).sum(dim=(2, 3)))
        return logits
