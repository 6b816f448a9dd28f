"""Every architecture of the zoo in a version that runs in milliseconds, and helpers of the tests of architectures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.architectures.began import BEGAN
from ganzoo_plugins.architectures.biggan import BigGAN
from ganzoo_plugins.architectures.cgan import CGAN
from ganzoo_plugins.architectures.dcgan import DCGAN
from ganzoo_plugins.architectures.dcgan_atienza import DCGANAtienza
from ganzoo_plugins.architectures.dcgan_atienza_book import DCGANAtienzaBook
from ganzoo_plugins.architectures.dcgan_pytorch import DCGANPyTorch
from ganzoo_plugins.architectures.dcgan_tutorial import DCGANTutorial
from ganzoo_plugins.architectures.infogan_nets import InfoGANNets
from ganzoo_plugins.architectures.mlp_keras_gan import MLPKerasGAN
from ganzoo_plugins.architectures.mlp_vanilla import MLPVanilla
from ganzoo_plugins.architectures.r3gan import R3GAN
from ganzoo_plugins.architectures.sngan import SNGAN
from ganzoo_plugins.architectures.sngan_projection import SNGANProjection
from ganzoo_plugins.architectures.stylegan2 import StyleGAN2
from ganzoo_plugins.architectures.wgan_gp import WGANGP

NAMES: Mapping[type[ganzoo.Architecture], str] = {
    DCGANTutorial: "dcgan-tutorial",
    DCGANAtienza: "dcgan-atienza",
    DCGANAtienzaBook: "dcgan-atienza-book",
    MLPKerasGAN: "mlp-keras-gan",
    MLPVanilla: "mlp-vanilla",
    DCGAN: "dcgan",
    DCGANPyTorch: "dcgan-pytorch",
    InfoGANNets: "infogan-nets",
    WGANGP: "wgan-gp",
    BigGAN: "biggan",
    SNGAN: "sngan",
    R3GAN: "r3gan",
    BEGAN: "began",
    CGAN: "cgan",
    SNGANProjection: "sngan-projection",
    StyleGAN2: "stylegan2",
}
#: architecture -> the options that make its networks small
SMALL: Mapping[type[ganzoo.Architecture], Mapping[str, Any]] = {
    DCGANTutorial: {"width": 4},
    DCGANAtienza: {"width": 4},
    DCGANAtienzaBook: {"width": 4},
    MLPKerasGAN: {"width": 4},
    MLPVanilla: {"width": 4},
    DCGAN: {"width": 8, "latent_dim": 8},
    DCGANPyTorch: {"width": 4, "latent_dim": 8},
    InfoGANNets: {"width": 16, "latent_dim": 8, "units": 64},
    WGANGP: {"width": 4, "latent_dim": 8},
    BigGAN: {"width": 2, "latent_dim": 8},
    SNGAN: {"width": 4, "latent_dim": 8},
    R3GAN: {"width": 8, "latent_dim": 8},
    BEGAN: {"width": 4, "latent_dim": 8, "embedding": 6},
    CGAN: {"latent_dim": 8},
    SNGANProjection: {"width": 4, "latent_dim": 8},
    StyleGAN2: {"channel_base": 64, "channel_max": 8, "latent_dim": 8, "style_dim": 8, "mapping_layers": 2},
}


def small(architecture: type[ganzoo.Architecture], **options: Any) -> ganzoo.Architecture:
    """An architecture with the options of `SMALL`; `options` change them."""
    return architecture(**{**SMALL[architecture], **options})


def draw(architecture: ganzoo.Architecture, count: int = 4, seed: int = 0) -> Tensor:
    """`count` latents of an architecture, drawn with this seed."""
    return architecture.latents(count, torch.Generator().manual_seed(seed))


def parameter_count(network: nn.Module) -> int:
    """The number of trainable values of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def assert_recipe(recipe: ganzoo.Recipe, expected: Mapping[str, Any]) -> None:
    """Fails unless the recipe has these values, by field; they are compared as text, parts of a list as `a b`."""
    for field, value in expected.items():
        found = getattr(recipe, field)
        if value is None:
            assert found is None, field
        else:
            assert (" ".join(map(str, found)) if isinstance(found, tuple) else str(found)) == str(value), field
