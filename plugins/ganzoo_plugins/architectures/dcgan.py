"""DCGAN, the first convolutional GAN that trained reliably."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.batch_norm import set_eps
from ganzoo_plugins.layers.keras import BatchNorm

_SMALLEST, _LARGEST = 8, 128


class DCGAN(ganzoo.Architecture):
    """DCGAN of Radford et al. 2015: strided convolutions and batch norm, any size from 8 to 128.

    Source: arXiv:1511.06434, section 3, figure 1 and section 4; Newmu/dcgan_code, faces/train_uncond_dcgan.py
    (e6e9cec).

    Generator: Dense to 4x4, batch norm of each of its features, then 5x5 transposed convolutions of stride 2, each
    halving the channels, down to `width`, batch norm and ReLU between; tanh. Discriminator: 5x5 convolutions of stride
    2 from `width`, each doubling the channels, batch norm after all but the first, LeakyReLU 0.2; Dense. Only batch
    norm has biases. Weights are drawn from N(0, 0.02^2), the scales of batch norm from N(1, 0.02^2).

    At 64 pixels these are the published networks. Other sizes have as many strides as it takes to reach 4 pixels: each
    side is halved and rounded up, 28 - 14 - 7 - 4, and the generator goes through the same sizes in reverse. There are
    at most `8 width` channels. Departures: samples are drawn with the moving statistics of batch norm, the program uses
    those of the sampled batch; each minibatch updates both networks, the program updates one of them with each, in
    turn, so its 25 epochs are half as many steps; the program's weight decay of 1e-5, which the paper does not have, is
    left out; the paper trains on bedrooms, faces and ImageNet, this recipe on MNIST.

    The variant `few-images` is for a few hundred pictures: narrow networks, small batches, and differentiable
    augmentation (Zhao et al. 2020, arXiv:2006.10738), without which the discriminator learns them by heart.

    The variants `wgan`, `wgan-gp` and `r3gan` train these networks with other losses. `wgan` is algorithm 1 of
    Arjovsky et al. 2017 (arXiv:1701.07875), who used these networks too. The others are the recipes of Gulrajani et al.
    2017 (arXiv:1704.00028) and, at toy scale, of Huang et al. 2024 (arXiv:2501.05441). Both penalise the gradient of
    each image, so the discriminator has no batch norm.
    """

    value_range = (-1.0, 1.0)
    former_options: ClassVar[Mapping[str, Any]] = {"batch_norm_eps": 1e-5}
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "mnist",
            "losses": "nonsaturating",
            "turns": "D,G",
            "generator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "batch_size": 128,
            "batch_order": "epochs",
            "length": "25 epochs",
            "samples_every": "1 epoch",
            "checkpoint_every": "5 epochs",
            "grid": "4x4",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "wgan": {
            "losses": "wasserstein",
            "turns": "D,D,D,D,D,G",
            "generator_optimizer": "rmsprop:lr=5e-5",
            "discriminator_optimizer": "rmsprop:lr=5e-5,clip=0.01",
            "batch_size": 64,
        },
        "wgan-gp": {
            "architecture": "dcgan:batch_norm=false",
            "losses": ["wasserstein", "gradient-penalty:weight=10"],
            "turns": "D,D,D,D,D,G",
            "generator_optimizer": "adam:lr=1e-4,beta1=0,beta2=0.9",
            "discriminator_optimizer": "adam:lr=1e-4,beta1=0,beta2=0.9",
            "batch_size": 64,
        },
        "r3gan": {
            "architecture": "dcgan:batch_norm=false",
            "losses": ["relativistic", "r1:gamma=0.1", "r2:gamma=0.1"],
            "turns": "D,G.new",
            "generator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.99",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.99",
            "batch_size": 64,
            "ema_half_life": 20_000,
        },
        # not published: for a few hundred pictures of one's own
        "few-images": {
            "architecture": "dcgan:width=32",
            "augmentations": ["diffaugment"],
            "batch_size": 32,
            "ema_half_life": 10_000,
            "length": "5000 steps",
            "samples_every": "100 steps",
            "checkpoint_every": "500 steps",
            "tick_every": "10 steps",
            "grid": "4x8",
        },
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "dcgan:width=32",
            "dataset": "digits",
            "batch_size": 64,
            "ema_half_life": 6000,
            "length": "80 epochs",
            "samples_every": "8 epochs",
            "checkpoint_every": "40 epochs",
            "tick_every": "20 steps",
            "grid": "4x8",
        },
    }

    suited: ClassVar[tuple[ganzoo.Suited, ...]] = (
        *(
            ganzoo.Suited(
                recipe="few-images",
                sides=(8, 128),
                images=(1, most),
                device=device,
                merit=3,
                needs=40_000,
                reason="is narrow and fast, and learns from few images with differentiable augmentation",
            )
            for device, most in (("cpu", 999), ("cuda", 4999))
        ),
        ganzoo.Suited(
            recipe="digits",
            sides=(8, 128),
            images=(1000, 1_000_000_000),
            device="cpu",
            merit=3,
            needs=40_000,
            reason="is narrow and fast",
        ),
        ganzoo.Suited(
            sides=(8, 128),
            images=(5000, 1_000_000_000),
            device="cuda",
            merit=4,
            needs=300_000,
            reason="is fast",
        ),
    )

    def __init__(
        self,
        *,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 100,
        width: Annotated[int, click.IntRange(min=1), "channels of the narrowest layer"] = 128,
        batch_norm: Annotated[bool, "in the discriminator; the generator always has it"] = True,
        batch_norm_eps: Annotated[float, click.FloatRange(min=0), "added to the variance in batch norm"] = 1e-8,
    ) -> None:
        self.latent_dim, self.width, self.batch_norm = latent_dim, width, batch_norm
        self.batch_norm_eps = batch_norm_eps

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sides from 8 to 128."""
        if not all(_SMALLEST <= side <= _LARGEST for side in (images.height, images.width)):
            raise ganzoo.RefusedSpec(
                f"dcgan needs a height and a width from {_SMALLEST} to {_LARGEST}, not {images.height}x{images.width}; "
                f"give the dataset a size, for example `mnist:size=32`."
            )
        sizes = _sizes(images)
        widths = [self.width * min(8, 2**level) for level in range(len(sizes) - 1)]
        generator = Generator(self.latent_dim, widths[::-1], sizes[::-1], images.channels)
        discriminator = Discriminator(widths, sizes[-1], images.channels, self.batch_norm)
        for network in (generator, discriminator):
            set_eps(network, self.batch_norm_eps)
        return generator, discriminator

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), uniform in [-1, 1)."""
        return torch.rand(count, self.latent_dim, generator=generator, device=generator.device) * 2 - 1


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, H, W) in (-1, 1). `sizes` are those of its feature maps, the smallest first."""

    def __init__(self, latent_dim: int, widths: list[int], sizes: list[tuple[int, int]], channels: int) -> None:
        super().__init__()
        self.base = (widths[0], *sizes[0])
        features = widths[0] * sizes[0][0] * sizes[0][1]
        self.dense = _initialised(nn.Linear(latent_dim, features, bias=False))
        self.bn0 = _batch_norm(features)
        outputs = [*widths[1:], channels]
        self.convts = nn.ModuleList(
            # an odd side needs one pixel less than twice the smaller side
            _initialised(
                nn.ConvTranspose2d(
                    inputs, output, 5, 2, padding=2, output_padding=(1 - size[0] % 2, 1 - size[1] % 2), bias=False
                )
            )
            for inputs, output, size in zip(widths, outputs, sizes[1:], strict=True)
        )
        self.bns = nn.ModuleList(_batch_norm(width) for width in widths[1:])

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = F.relu(self.bn0(self.dense(latents))).view(-1, *self.base)
        for convolution, norm in zip(self.convts[:-1], self.bns, strict=True):
            features = F.relu(norm(convolution(features)))
        return torch.tanh(self.convts[-1](features))


class Discriminator(nn.Module):
    """Images (N, C, H, W) -> logits (N, 1); `smallest` is the size after all strides."""

    def __init__(self, widths: list[int], smallest: tuple[int, int], channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            _initialised(nn.Conv2d(inputs, output, 5, 2, padding=2, bias=False))
            for inputs, output in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.bns = nn.ModuleList(_batch_norm(width) if batch_norm else nn.Identity() for width in widths[1:])
        self.dense = _initialised(nn.Linear(widths[-1] * smallest[0] * smallest[1], 1, bias=False))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = F.leaky_relu(self.convs[0](images), 0.2)
        for convolution, norm in zip(self.convs[1:], self.bns, strict=True):
            features = F.leaky_relu(norm(convolution(features)), 0.2)
        logits: Tensor = self.dense(features.flatten(1))
        return logits


def _sizes(images: ganzoo.ImageSpec) -> list[tuple[int, int]]:
    """(height, width) before and after each stride of 2, until the shorter side is 4: 28, 14, 7, 4."""
    sizes = [(images.height, images.width)]
    while min(sizes[-1]) > 4:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def _initialised(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    nn.init.normal_(layer.weight, std=0.02)
    return layer


def _batch_norm(channels: int) -> BatchNorm:
    """Batch norm with PyTorch's settings, which also accepts a batch of one image; scales from N(1, 0.02^2)."""
    norm = BatchNorm(channels, momentum=0.9, moving_variance="corrected", eps=1e-5)
    nn.init.normal_(norm.weight, mean=1.0, std=0.02)
    return norm
