"""Class-conditional SNGAN: the projection discriminator."""

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
from ganzoo_plugins.layers import spectral as power_iteration
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
    spectral_norm,
)


class SNGANProjection(ganzoo.Architecture):
    """Conditional SNGAN: class-conditional batch norm in the generator, a projection discriminator.

    Source: Miyato and Koyama 2018, "cGANs with Projection Discriminator" (arXiv:1802.05637); networks and
    hyperparameters for CIFAR-10 of pfnet-research/sngan_projection (configs/sn_cifar10.yml at 3ff93ef).

    The networks of `sngan`, with `2 width` channels in the generator and `width` in the discriminator. Generator: scale
    and shift of the batch norms in the blocks are embeddings of the class. Discriminator: features f are summed over
    positions; the logit is w . f + v_class . f, equation 3 of the paper, and w and the matrix of all v have spectral
    norm 1 too. With a single class, v is a second vector beside w.

    The learning rate falls to zero over the length of the run: 50,000 steps of five batches of 64. The classes of
    fakes are drawn anew in each turn, as in the program (`fake_labels`). Departure: the program draws 128 fakes for the
    generator's update, here there are 64. Order of turns and Adam's eps differ as in `sngan`.

    `program=mimicry` has the networks of kwotsin/mimicry (a7fda06), whose checkpoints `ganzoo import` reads: see
    `sngan`. The variant `mimicry` trains them as that program does. So for `program=studiogan` and `studiogan`.
    """

    value_range = (-1.0, 1.0)
    former_options: ClassVar[Mapping[str, Any]] = {"batch_norm_eps": 1e-5, "power_iteration": "pytorch"}
    conditional = True
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "cifar10",
            "losses": "hinge",
            "preprocessing": "dequantise",
            "fake_labels": "uniform",
            "turns": "D,D,D,D,D,G",
            "generator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
            "batch_size": 64,
            "batch_order": "stream",
            "length": "50000 steps",
            "samples_every": "1000 steps",
            "checkpoint_every": "5000 steps",
            "grid": "10x10",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # 100,000 steps of five batches of 64; five turns of the discriminator, then one of the generator
        "mimicry": {
            "architecture": "sngan-projection:program=mimicry",
            "dataset": "cifar10",
            "preprocessing": "",
            "length": "100000 steps",
        },
        # SNGAN of StudioGAN for CIFAR-10 (947b35e, src/config.py and src/configs/CIFAR10/SNGAN.yaml).
        # Weights begin as in the other variants, the program's orthogonally
        "studiogan": {
            "architecture": "sngan-projection:program=studiogan",
            "dataset": "cifar10",
            "preprocessing": "flip",
            "generator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "length": "100000 steps",
        },
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "sngan-projection:width=16",
            "dataset": "digits",
            "turns": "D,D,G",
            "generator_optimizer": "adam:lr=5e-4,beta1=0,beta2=0.9",
            "discriminator_optimizer": "adam:lr=5e-4,beta1=0,beta2=0.9",
            "batch_size": 32,
            "ema_half_life": 6000,
            "length": "160 epochs",
            "samples_every": "16 epochs",
            "checkpoint_every": "80 epochs",
            "tick_every": "20 steps",
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
            return read_studiogan_resnet(file, "sngan-projection", classes=True)
        return read_mimicry(file, {"l5": "linear", "l_y": "projection"}, ("l5", "l_y"))

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for sizes from 16 to 64 that are multiples of 4, and any number of classes."""
        doubled = doublings(images, "sngan-projection")
        generator = ResNetGenerator(
            self.latent_dim, self.generator_width, images, doubled, images.classes, self.program
        )
        set_eps(generator, self.batch_norm_eps or self.program.batch_norm_eps)
        return generator, Discriminator(self.width, images, self.program)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Discriminator(nn.Module):
    """Images (N, C, H, W) and labels (N,) -> logits (N, 1)."""

    def __init__(self, width: int, images: ganzoo.ImageSpec, program: Program) -> None:
        super().__init__()
        self.features = ResNetFeatures(width, images.channels, halvings(images), spectral=True, program=program)
        embedding = nn.Embedding(images.classes, width)
        nn.init.xavier_uniform_(embedding.weight)
        if program.own_power_iteration:  # a spectral norm of its own in the layers that are no convolutions
            self.linear = power_iteration.spectral_norm(linear(width, 1, program=program))
            self.projection = power_iteration.spectral_norm(embedding)
        else:
            self.linear = linear(width, 1, bias=program.last_bias, spectral=True, program=program)
            self.projection = spectral_norm(embedding, program)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """One logit for each image: how real it looks as an image of its class."""
        features = self.features(images).sum(dim=(2, 3))  # (N, width)
        logits: Tensor = self.linear(features) + (self.projection(labels) * features).sum(dim=1, keepdim=True)
        return logits
