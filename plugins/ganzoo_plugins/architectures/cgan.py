"""The conditional GAN: the class is an input of both networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.dropout import Dropout

_Layer = TypeVar("_Layer", nn.Linear, nn.Embedding)


class CGAN(ganzoo.Architecture):
    """Conditional GAN of fully connected layers: the class has a hidden layer of its own in both networks.

    Source: Mirza and Osindero 2014, "Conditional Generative Adversarial Nets" (arXiv:1411.1784), section 4.1 (MNIST).

    Generator: latents to 200 and classes to 1,000 units, together to 1,200, all ReLU; then the pixels, sigmoid.
    Discriminator: pixels to 240 maxout units of 5 pieces and classes to 50 of 5, together to 240 of 4; one logit.
    Dropout after every hidden layer of both. A class is embedded as a vector, which is the same as a linear layer on
    its one-hot code; with a single class that vector is a bias.

    Departures: latents are uniform in [-1, 1), because with those of the paper, in [0, 1), half of the hidden units on
    the latents were dead and all images of a class alike; Adam, where the paper has SGD with momentum 0.5 to 0.7 and a
    learning rate that falls from 0.1 to 1e-6; the non-saturating loss of the generator, where the paper's formula is
    the minimax loss. The paper does not state initial weights (here Glorot uniform) or the length.
    """

    value_range = (0.0, 1.0)
    conditional = True
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "mnist",
            "losses": "nonsaturating",
            "turns": "D,G",
            "generator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "batch_size": 100,
            "length": "100 epochs",
            "samples_every": "5 epochs",
            "checkpoint_every": "20 epochs",
            "grid": "10x10",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16; with dropout, or without a
        # penalty, all images of a class become alike
        "digits": {
            "architecture": "cgan:dropout=0",
            "dataset": "digits",
            "losses": ["relativistic", "r1:gamma=0.05", "r2:gamma=0.05"],
            "generator_optimizer": "adam:lr=4e-4,beta1=0,beta2=0.99",
            "discriminator_optimizer": "adam:lr=4e-4,beta1=0,beta2=0.99",
            "batch_size": 50,
            "ema_half_life": 5000,
            "length": "150 epochs",
            "samples_every": "15 epochs",
            "checkpoint_every": "50 epochs",
        },
    }

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 100,
        dropout: Annotated[float, click.FloatRange(0, 1, max_open=True), "of both networks"] = 0.5,
    ) -> None:
        self.latent_dim, self.dropout = latent_dim, dropout

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for images of any size and any number of classes."""
        return Generator(self.latent_dim, images, self.dropout), Discriminator(images, self.dropout)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), uniform in [-1, 1)."""
        return torch.rand(count, self.latent_dim, generator=generator, device=generator.device) * 2 - 1


class Generator(nn.Module):
    """Latents (N, Z) and labels (N,) -> images (N, C, H, W) in (0, 1)."""

    def __init__(self, latent_dim: int, images: ganzoo.ImageSpec, dropout: float) -> None:
        super().__init__()
        self.shape = images.channels, images.height, images.width
        self.from_latents = _glorot(nn.Linear(latent_dim, 200))
        self.from_labels = _glorot(nn.Embedding(images.classes, 1000))
        self.joint = _glorot(nn.Linear(1200, 1200))
        self.pixels = _glorot(nn.Linear(1200, images.pixels))
        self.dropout = Dropout(dropout)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """One image for each latent, of the class of its label."""
        features = torch.cat((self.from_latents(latents), self.from_labels(labels)), dim=1)
        features = self.dropout(F.relu(self.joint(self.dropout(F.relu(features)))))
        return torch.sigmoid(self.pixels(features)).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Images (N, C, H, W) and labels (N,) -> logits (N, 1)."""

    def __init__(self, images: ganzoo.ImageSpec, dropout: float) -> None:
        super().__init__()
        self.from_pixels = _glorot(nn.Linear(images.pixels, 240 * 5))
        self.from_labels = _glorot(nn.Embedding(images.classes, 50 * 5))
        self.joint = _glorot(nn.Linear(240 + 50, 240 * 4))
        self.logit = _glorot(nn.Linear(240, 1))
        self.dropout = Dropout(dropout)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """One logit for each image: how real it looks as an image of its class."""
        features = torch.cat(
            (maxout(self.from_pixels(images.flatten(1)), 5), maxout(self.from_labels(labels), 5)), dim=1
        )
        logits: Tensor = self.logit(self.dropout(maxout(self.joint(self.dropout(features)), 4)))
        return logits


def maxout(values: Tensor, pieces: int) -> Tensor:
    """(N, units * pieces) -> (N, units): the largest of each unit's pieces (Goodfellow et al. 2013, 1302.4389)."""
    return values.view(values.shape[0], -1, pieces).amax(dim=2)


def _glorot(layer: _Layer) -> _Layer:
    nn.init.xavier_uniform_(layer.weight)
    if isinstance(layer, nn.Linear):
        nn.init.zeros_(layer.bias)
    return layer
