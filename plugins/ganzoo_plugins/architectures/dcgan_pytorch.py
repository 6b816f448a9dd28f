"""The DCGAN of the PyTorch examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.pyramid import base_size


class DCGANPyTorch(ganzoo.Architecture):
    """The DCGAN of the PyTorch examples and tutorial: 4x4 kernels, batch norm, 64x64 images.

    Source: pytorch/examples, dcgan/main.py (77f55b9), after Radford et al. 2015 (arXiv:1511.06434).

    Generator: a transposed 4x4 convolution turns the latents, a 1x1 image, into 4x4; then transposed 4x4 convolutions
    of stride 2, each halving the channels, down to `width`; batch norm and ReLU between, tanh at the end.
    Discriminator: 4x4 convolutions of stride 2 from `width`, each doubling the channels, LeakyReLU 0.2, batch norm
    after all but the first; a 4x4 convolution to one logit. No convolution has a bias. Weights are drawn from
    N(0, 0.02^2), scales of batch norm from N(1, 0.02^2).

    The loss is binary cross-entropy on reals and fakes in two forwards, and the generator is trained on the fakes that
    the discriminator has just seen. At 64 pixels these are the published networks; other sizes have fewer or more
    strides, and their first and last kernels have the size at which they begin and end, 4 to 7. The program trains on
    LSUN or on a folder of photos; this recipe trains on CIFAR-10, which it offers too. `ganzoo import` reads its files
    netG and netD.
    """

    value_range = (-1.0, 1.0)
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            "dataset": "cifar10:size=64",
            "losses": "nonsaturating",
            "turns": "D,G",
            "reuse_fakes": True,
            "generator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "discriminator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
            "batch_size": 64,
            "batch_order": "epochs",
            "length": "25 epochs",
            "samples_every": "1 epoch",
            "checkpoint_every": "1 epoch",
            "grid": "8x8",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
        "digits": {
            "architecture": "dcgan-pytorch:width=32",
            "dataset": "digits",
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
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 100,
        width: Annotated[int, click.IntRange(min=1), "channels of the narrowest layer"] = 64,
        discriminator_width: Annotated[int, click.IntRange(min=0), "the same in the discriminator; 0: the width"] = 0,
    ) -> None:
        self.latent_dim, self.width, self.discriminator_width = latent_dim, width, discriminator_width or width

    @classmethod
    def read_foreign(cls, file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
        """A netG_epoch_*.pth or netD_epoch_*.pth of the program: the layers of `main`, numbered with activations."""
        layers = {name.removeprefix("module."): value for name, value in file.below("").items()}
        weights = {name: value for name, value in layers.items() if name.endswith(".weight") and value.ndim == 4}
        if not weights or not all(name.startswith("main.") for name in layers) or "main.0.weight" not in weights:
            few = ", ".join(list(layers)[:4])
            raise ganzoo.UsageError(f"{file.path} is no netG or netD of the PyTorch examples: its tensors are {few}.")
        kernels = sorted(weights, key=_place)
        is_generator = "main.1.weight" in layers  # only the generator has a norm after its first convolution
        found = _renamed(layers, kernels, is_generator)
        base = weights[kernels[0 if is_generator else -1]].shape[-1]
        size = base << len(kernels) - 1
        if is_generator:
            last = weights[kernels[-1]]
            options = {"latent_dim": weights["main.0.weight"].shape[0], "width": last.shape[0]}
            images = {"channels": last.shape[1], "height": size, "width": size}
            return ganzoo.ForeignWeights(options=options, images=images, generator=found)
        first = weights["main.0.weight"]
        images = {"channels": first.shape[1], "height": size, "width": size}
        return ganzoo.ForeignWeights(
            options={"discriminator_width": first.shape[0]}, images=images, discriminator=found
        )

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and sizes of 4 to 7 times a power of 2, from 8 on."""
        height, width, strides = base_size(images, "dcgan-pytorch")
        if not strides:
            raise ganzoo.RefusedSpec(
                f"dcgan-pytorch needs a height and a width of at least 8, not {images.height}x{images.width}; give the "
                f"dataset a size, for example `mnist:size=64`."
            )
        return (
            Generator(self.latent_dim, self.width, (height, width), strides, images.channels),
            Discriminator(self.discriminator_width, (height, width), strides, images.channels),
        )

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, C, H, W) in (-1, 1)."""

    def __init__(self, latent_dim: int, width: int, base: tuple[int, int], strides: int, channels: int) -> None:
        super().__init__()
        widths = [width << level for level in reversed(range(strides))]  # the widest first
        self.convs = nn.ModuleList([_initialised(nn.ConvTranspose2d(latent_dim, widths[0], base, bias=False))])
        self.convs.extend(
            _initialised(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False))
            for inputs, outputs in zip(widths, [*widths[1:], channels], strict=True)
        )
        self.bns = nn.ModuleList(_batch_norm(width) for width in widths)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = latents[:, :, None, None]
        for convolution, norm in zip(self.convs[:-1], self.bns, strict=True):
            features = F.relu(norm(convolution(features)))
        return torch.tanh(self.convs[-1](features))


class Discriminator(nn.Module):
    """Images (N, C, H, W) -> logits (N, 1)."""

    def __init__(self, width: int, base: tuple[int, int], strides: int, channels: int) -> None:
        super().__init__()
        widths = [width << level for level in range(strides)]
        self.convs = nn.ModuleList(
            _initialised(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))
            for inputs, outputs in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.bns = nn.ModuleList(_batch_norm(width) for width in widths[1:])
        self.last = _initialised(nn.Conv2d(widths[-1], 1, base, bias=False))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are not used."""
        features = F.leaky_relu(self.convs[0](images), 0.2)
        for convolution, norm in zip(self.convs[1:], self.bns, strict=True):
            features = F.leaky_relu(norm(convolution(features)), 0.2)
        logits: Tensor = self.last(features).flatten(1)
        return logits


def _place(name: str) -> int:
    """The number of a layer in a name such as main.3.weight; -1 where there is none."""
    number = name.split(".")[1]
    return int(number) if number.isdecimal() else -1


def _renamed(layers: Mapping[str, Tensor], kernels: list[str], is_generator: bool) -> dict[str, Tensor]:
    """The tensors of `main` under our names: the norm after the i-th convolution has the next number."""
    found = {}
    places = [_place(name) for name in kernels]
    for name, value in layers.items():
        place, rest = _place(name), name.partition(".")[2].partition(".")[2]
        if place in places:
            index = places.index(place)
            last = index == len(places) - 1 and not is_generator
            found[f"last.{rest}" if last else f"convs.{index}.{rest}"] = value
        elif place - 1 in places:
            # the generator has a norm after its first convolution, the discriminator after its second
            index = places.index(place - 1) - (0 if is_generator else 1)
            found[f"bns.{index}.{rest}"] = value
        else:
            found[name] = value
    for name in [name for name in found if name.endswith("running_mean")]:
        found.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return found


def _initialised(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    nn.init.normal_(layer.weight, std=0.02)
    return layer


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight, mean=1.0, std=0.02)
    return norm
