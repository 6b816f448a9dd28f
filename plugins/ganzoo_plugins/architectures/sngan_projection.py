"""Class-conditional SNGAN: the projection discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import click
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.layers.resnet import ResNetFeatures, ResNetGenerator, doublings, halvings, linear, spectral_norm


class SNGANProjection(ganzoo.Architecture):
    """SNGAN told the class: conditional batch norm in the generator, a projection in the discriminator.

    Source: Miyato and Koyama 2018, "cGANs with Projection Discriminator" (arXiv:1802.05637), in the networks and with
    the numbers for CIFAR-10 of pfnet-research/sngan_projection (configs/sn_cifar10.yml at 3ff93ef).

    Generator: residual blocks that double, scale and shift of their batch norms looked up by class. Discriminator:
    residual blocks under spectral norm, features f summed over places; the logit is w . f + v_class . f, equation 3 of
    the paper, with w and the table of v under spectral norm too. A single class is served as well: then v is one more
    row of w.

    Departures: `width` 64 where the papers have 256 in the generator and 128 in the discriminator; the program falls
    to a learning rate of 0 over 50,000 steps, here it is constant; it draws 128 fakes for the generator's turn and
    classes of its own for them, here there are 64, of the classes of the reals.
    """

    value_range = (-1.0, 1.0)
    conditional = True
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "cifar10",
            "losses": "hinge",
            "turns": "D,D,D,D,D,G",
            "generator_optimizer": "adam:lr=2e-4,beta1=0.0,beta2=0.9",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.0,beta2=0.9",
            "batch_size": 64,
            "sampling": "stream",
            "length": "50000 steps",
            "samples_every": "1000 steps",
            "checkpoint_every": "5000 steps",
            "grid": "10x10",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # the published widths
        "cifar10": {"architecture": "sngan-projection:width=256,discriminator_width=128"},
        # ours: scikit-learn's 1,498 images of 16x16
        "digits": {
            "architecture": "sngan-projection:width=32,discriminator_width=32",
            "dataset": "digits",
            "turns": "D,D,G",
            "average_half_life": 5000,
            "length": "100 epochs",
            "samples_every": "10 epochs",
            "checkpoint_every": "50 epochs",
            "tick_every": "20 steps",
        },
    }

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 128,
        width: Annotated[int, click.IntRange(min=1), "channels of the generator"] = 64,
        discriminator_width: Annotated[int, click.IntRange(min=1), "channels of the discriminator"] = 64,
    ) -> None:
        self.latent_dim, self.width, self.discriminator_width = latent_dim, width, discriminator_width

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for sizes from 16 to 64 that are multiples of 4, and any number of classes."""
        doubled = doublings(images, "sngan-projection")
        generator = ResNetGenerator(self.latent_dim, self.width, images, doubled, classes=images.classes)
        return generator, Discriminator(self.discriminator_width, images)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Discriminator(nn.Module):
    """Images (N, C, H, W) and labels (N,) -> logits (N, 1)."""

    def __init__(self, width: int, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.features = ResNetFeatures(width, images.channels, halvings(images), spectral=True)
        self.linear = linear(width, 1, bias=False, spectral=True)
        table = nn.Embedding(images.classes, width)
        nn.init.xavier_uniform_(table.weight)
        self.projection = spectral_norm(table)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """How real each image looks, and how much like its class."""
        features = self.features(images).sum(dim=(2, 3))  # (N, width)
        logits: Tensor = self.linear(features) + (self.projection(labels) * features).sum(dim=1, keepdim=True)
        return logits
