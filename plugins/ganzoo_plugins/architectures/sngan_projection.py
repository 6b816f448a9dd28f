"""Class-conditional SNGAN: the projection discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import click
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.layers.batch_norm import set_eps
from ganzoo_plugins.layers.resnet import ResNetFeatures, ResNetGenerator, doublings, halvings, linear, spectral_norm


class SNGANProjection(ganzoo.Architecture):
    """Conditional SNGAN: class-conditional batch norm in the generator, a projection discriminator.

    Source: Miyato and Koyama 2018, "cGANs with Projection Discriminator" (arXiv:1802.05637); networks and
    hyperparameters for CIFAR-10 of pfnet-research/sngan_projection (configs/sn_cifar10.yml at 3ff93ef).

    The networks of `sngan`, with `2 width` channels in the generator and `width` in the discriminator. Generator: scale
    and shift of the batch norms in the blocks are embeddings of the class. Discriminator: features f are summed over
    positions; the logit is w . f + v_class . f, equation 3 of the paper, and w and the matrix of all v have spectral
    norm 1 too. With a single class, v is a second vector beside w.

    The learning rate falls to zero over the length of the run: 50,000 steps of five batches of 64. Departure: the
    program draws 128 fakes with random classes for the generator's update; here there are 64, with the classes of the
    reals, in the discriminator's turns too. Order of turns, Adam's eps and power iteration differ as in `sngan`.
    """

    value_range = (-1.0, 1.0)
    former_options: ClassVar[Mapping[str, Any]] = {"batch_norm_eps": 1e-5}
    conditional = True
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
            "grid": "10x10",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
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

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 128,
        width: Annotated[int, click.IntRange(min=1), "channels of the discriminator; the generator has twice"] = 128,
        batch_norm_eps: Annotated[float, click.FloatRange(min=0), "added to the variance in batch norm"] = 2e-5,
    ) -> None:
        self.latent_dim, self.width = latent_dim, width
        self.batch_norm_eps = batch_norm_eps

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for sizes from 16 to 64 that are multiples of 4, and any number of classes."""
        doubled = doublings(images, "sngan-projection")
        generator = ResNetGenerator(self.latent_dim, 2 * self.width, images, doubled, classes=images.classes)
        set_eps(generator, self.batch_norm_eps)
        return generator, Discriminator(self.width, images)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Discriminator(nn.Module):
    """Images (N, C, H, W) and labels (N,) -> logits (N, 1)."""

    def __init__(self, width: int, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.features = ResNetFeatures(width, images.channels, halvings(images), spectral=True)
        self.linear = linear(width, 1, bias=False, spectral=True)
        embedding = nn.Embedding(images.classes, width)
        nn.init.xavier_uniform_(embedding.weight)
        self.projection = spectral_norm(embedding)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """One logit for each image: how real it looks as an image of its class."""
        features = self.features(images).sum(dim=(2, 3))  # (N, width)
        logits: Tensor = self.linear(features) + (self.projection(labels) * features).sum(dim=1, keepdim=True)
        return logits
