"""BigGAN: large class-conditional residual networks with spectral norm in both, and self attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import click
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.architectures._biggan_files import read_biggan
from ganzoo_plugins.architectures._biggan_networks import (
    LARGEST_DOUBLINGS,
    Discriminator,
    Generator,
    Setting,
    initialise,
)
from ganzoo_plugins.architectures._studiogan_files import is_studiogan, read_studiogan_biggan
from ganzoo_plugins.layers.pyramid import base_size

_Normal = Literal["N02", "ortho"]


class BigGAN(ganzoo.Architecture):
    """BigGAN of Brock et al. 2018: class-conditional residual networks, spectral norm in both, hinge loss.

    Source: arXiv:1809.11096; ajbrock/BigGAN-PyTorch (9845943), BigGAN.py and layers.py, with the recipe of
    scripts/launch_cifar_ema.sh, and that of launch_BigGAN_bs256x8.sh as the variant `imagenet-128`.

    Generator: Dense to 4x4, blocks that double (batch norm, ReLU, doubling, 3x3, batch norm, ReLU, 3x3; a 1x1
    shortcut), batch norm, 3x3, tanh. Scale and shift of the norms in blocks depend on the class: tables, or with
    `shared` a spectrally normalised linear map of one embedding of the class. With `hierarchical` the latent is split
    into equal chunks: the first is the input, each block appends another to the embedding of the class.
    Discriminator: residual blocks, ReLU, sum over positions, a linear map, plus the projection on a row of the class
    table. `attention` is the size at which both networks have self attention (Zhang et al. 2018, arXiv:1805.08318).

    The discriminator sees fakes and reals in one forward, fakes first, so that each update does one power iteration
    (`joint_forward`). Sizes of 32, 64, 128 and 256 pixels are published; other sizes of 4 to 7 times a power of 2 have
    the channels of 32 pixels. The classes of fakes are drawn anew in each turn, as in the program (`fake_labels`).
    Departure: samples are drawn with the moving statistics of batch norm, the program's with those of each batch;
    `--standing-statistics 16` of `ganzoo sample` and `ganzoo evaluate` recomputes them as the paper does.

    `program=studiogan` has the networks of POSTECH-CVLab/PyTorch-StudioGAN (947b35e), whose checkpoints `ganzoo import`
    reads: eps of 1e-4 in batch norm, both vectors of the power iteration kept, shortcuts of relu(x) in all blocks of
    the discriminator but the first, attention after one block only, narrower blocks at 64 pixels, biases that start at
    0. The variant `studiogan` is its BigGAN for CIFAR-10.
    """

    value_range = (-1.0, 1.0)
    conditional = True
    batch_statistics = ("stored_mean", "stored_var")
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "cifar10",
            "losses": "hinge",
            "turns": "D,D,D,D,G",
            "joint_forward": True,
            "fake_labels": "uniform",
            "generator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.999",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.999",
            "batch_size": 50,
            "batch_order": "stream",
            # a decay of 0.9999 in each step of four batches of 50
            "ema_half_life": 1_386_225,
            "ema_start": 200_000,
            "length": "500 epochs",
            "samples_every": "5 epochs",
            "checkpoint_every": "10 epochs",
            "grid": "10x10",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "imagenet-128": {
            "architecture": (
                "biggan:width=96,latent_dim=120,shared=128,hierarchical=true,attention=64,init=ortho,norm_eps=1e-6"
            ),
            "dataset": "image-folder:path=imagenet,size=128",
            "turns": "D,G",
            "generator_optimizer": "adam:lr=1e-4,beta1=0,beta2=0.999,eps=1e-6",
            "discriminator_optimizer": "adam:lr=4e-4,beta1=0,beta2=0.999,eps=1e-6",
            "batch_size": 2048,
            "ema_half_life": 14_194_941,
            "ema_start": 40_960_000,
            "length": "150000 steps",
            "samples_every": "1000 steps",
            "checkpoint_every": "1000 steps",
        },
        "studiogan": {
            "architecture": (
                "biggan:program=studiogan,width=96,discriminator_width=48,latent_dim=80,shared=128,hierarchical=true,"
                "attention=16,init=ortho,norm_eps=1e-6"
            ),
            "preprocessing": "flip",
            "turns": "D,D,D,D,D,G",
            "joint_forward": False,
            "generator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "batch_size": 64,
            # a decay of 0.9999 in each step of five batches of 64, from step 1,000 on
            "ema_half_life": 2_217_963,
            "ema_start": 320_000,
            "length": "100000 steps",
            "samples_every": "1000 steps",
            "checkpoint_every": "5000 steps",
        },
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "biggan:width=8,latent_dim=32",
            "dataset": "digits",
            "turns": "D,D,G",
            "generator_optimizer": "adam:lr=5e-4,beta1=0,beta2=0.999",
            "discriminator_optimizer": "adam:lr=5e-4,beta1=0,beta2=0.999",
            "batch_size": 32,
            "ema_half_life": 6000,
            "ema_start": 0,
            "length": "80 epochs",
            "samples_every": "8 epochs",
            "checkpoint_every": "40 epochs",
            "tick_every": "20 steps",
        },
    }

    suited: ClassVar[tuple[ganzoo.Suited, ...]] = (
        ganzoo.Suited(
            sides=(24, 47),
            images=(20_000, 1_000_000_000),
            device="cuda",
            merit=8,
            needs=4_000_000,
            reason="is made for images with classes",
        ),
    )

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 128,
        width: Annotated[int, click.IntRange(min=1), "the unit of channels; layers have 1 to 16 times as many"] = 64,
        discriminator_width: Annotated[int, click.IntRange(min=0), "the same in the discriminator; 0: the width"] = 0,
        shared: Annotated[int, click.IntRange(min=0), "numbers of the classes' embedding; 0: a table a norm"] = 0,
        hierarchical: Annotated[bool, "whether each block sees a chunk of the latent; needs `shared`"] = False,
        attention: Annotated[int, click.IntRange(min=0), "size in pixels at which there is attention; 0: none"] = 0,
        init: Annotated[_Normal, "initial weights: N(0, 0.02^2), or orthogonal"] = "N02",
        norm_eps: Annotated[float, click.FloatRange(min=0), "least norm of a vector of the power iteration"] = 1e-8,
        program: Annotated[
            Literal["authors", "studiogan"], "whose networks: of the paper's authors, or of StudioGAN"
        ] = "authors",
    ) -> None:
        if hierarchical and not shared:
            raise ganzoo.UsageError("biggan:hierarchical=true appends to the classes' embedding: give shared=128 too.")
        self.latent_dim = latent_dim
        self.setting = Setting(
            latent_dim,
            width,
            discriminator_width or width,
            shared,
            hierarchical,
            attention,
            init,
            norm_eps,
            program == "studiogan",
        )

    @classmethod
    def read_foreign(cls, file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
        """A G.pth, G_ema.pth or D.pth of BigGAN-PyTorch, or a model=*.pth of StudioGAN."""
        return read_studiogan_biggan(file) if is_studiogan(file) else read_biggan(file)

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and classes, and 4 to 7 pixels doubled 1 to 6 times."""
        height, width, doublings = base_size(images, "biggan")
        if not 1 <= doublings <= LARGEST_DOUBLINGS:
            raise ganzoo.RefusedSpec(
                f"biggan needs a height and a width from 8 to 256 pixels, not {images.height}x{images.width}; give the "
                f"dataset a size, for example `cifar10:size=32`."
            )
        made = (
            Generator(self.setting, images, (height, width), doublings),
            Discriminator(self.setting, images, doublings),
        )
        for network in made:
            initialise(network, self.setting)
        return made

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)
