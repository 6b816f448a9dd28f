"""BigGAN: large class-conditional residual networks with spectral norm in both, and self attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.architectures._biggan_files import read_biggan
from ganzoo_plugins.layers.pyramid import base_size
from ganzoo_plugins.layers.spectral import spectral_norm

#: doublings of the generator -> input and output channels of its blocks, and output channels of the discriminator's
_WIDTHS: Mapping[int, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    3: ((4, 4, 4), (4, 4, 4), (4, 4, 4, 4)),
    4: ((16, 16, 8, 4), (16, 8, 4, 2), (1, 2, 4, 8, 16)),
    5: ((16, 16, 8, 4, 2), (16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16)),
    6: ((16, 16, 8, 8, 4, 2), (16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16)),
}
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
    Departure: samples are drawn with the moving statistics of batch norm, the program's with those of each batch.
    """

    value_range = (-1.0, 1.0)
    conditional = True
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
    ) -> None:
        if hierarchical and not shared:
            raise ganzoo.UsageError("biggan:hierarchical=true appends to the classes' embedding: give shared=128 too.")
        self.latent_dim, self.width, self.discriminator_width = latent_dim, width, discriminator_width or width
        self.shared, self.hierarchical, self.attention = shared, hierarchical, attention
        self.init, self.norm_eps = init, norm_eps

    @classmethod
    def read_foreign(cls, file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
        """A G.pth, G_ema.pth or D.pth of BigGAN-PyTorch."""
        return read_biggan(file)

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any number of channels and classes, and 4 to 7 pixels doubled 1 to 6 times."""
        height, width, doublings = base_size(images, "biggan")
        if not 1 <= doublings <= max(_WIDTHS):
            raise ganzoo.RefusedSpec(
                f"biggan needs a height and a width from 8 to 256 pixels, not {images.height}x{images.width}; give the "
                f"dataset a size, for example `cifar10:size=32`."
            )
        made = Generator(self, images, (height, width), doublings), Discriminator(self, images, doublings)
        for network in made:
            _initialise(network, self.init, self.norm_eps)
        return made

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)


class BatchNorm(nn.Module):
    """Batch norm without parameters, times 1 + gain(y), plus bias(y): tables of classes, or linear maps of y."""

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int, inputs: int, *, tables: bool) -> None:
        super().__init__()
        make = (lambda: nn.Embedding(inputs, channels)) if tables else (lambda: nn.Linear(inputs, channels, bias=False))
        self.gain, self.bias = make(), make()
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, features: Tensor, y: Tensor) -> Tensor:
        """(N, C, H, W) features; `y` labels (N,), or their embedding (N, inputs)."""
        gain, bias = (layer(y)[:, :, None, None] for layer in (self.gain, self.bias))
        normalised = F.batch_norm(features, self.stored_mean, self.stored_var, training=self.training, momentum=0.1)
        return torch.addcmul(bias, normalised, 1 + gain)


class LastBatchNorm(nn.Module):
    """Batch norm with a scale and a shift of its own, under the names of the program."""

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """The same shape."""
        statistics = self.stored_mean, self.stored_var
        return F.batch_norm(features, *statistics, self.gain, self.bias, self.training, momentum=0.1)


class Attention(nn.Module):
    """Self attention (N, C, H, W) -> the same shape; keys and values have half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        keys, values = max(1, channels // 8), max(1, channels // 2)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.theta = nn.Conv2d(channels, keys, 1, bias=False)
        self.phi = nn.Conv2d(channels, keys, 1, bias=False)
        self.g = nn.Conv2d(channels, values, 1, bias=False)
        self.o = nn.Conv2d(values, channels, 1, bias=False)

    def forward(self, features: Tensor, y: Tensor | None = None) -> Tensor:
        """The features, plus gamma times what each position attends to."""
        queries = self.theta(features).flatten(2)  # (N, K, H W)
        keys = F.max_pool2d(self.phi(features), 2).flatten(2)  # (N, K, H W / 4)
        values = F.max_pool2d(self.g(features), 2).flatten(2)
        shares = torch.softmax(queries.transpose(1, 2) @ keys, dim=-1)  # (N, H W, H W / 4)
        attended = (values @ shares.transpose(1, 2)).view(*values.shape[:2], *features.shape[2:])
        total: Tensor = features + self.gamma * self.o(attended)
        return total


class GeneratorBlock(nn.Module):
    """(N, in, H, W) -> (N, out, 2 H, 2 W), with class-conditional batch norm."""

    def __init__(self, in_channels: int, out_channels: int, inputs: int, *, tables: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_sc = nn.Conv2d(in_channels, out_channels, 1)
        self.bn1 = BatchNorm(in_channels, inputs, tables=tables)
        self.bn2 = BatchNorm(out_channels, inputs, tables=tables)

    def forward(self, features: Tensor, y: Tensor) -> Tensor:
        """`y` is what the norms depend on."""
        inner = self.conv1(_double(F.relu(self.bn1(features, y))))
        inner = self.conv2(F.relu(self.bn2(inner, y)))
        # a 1x1 convolution before the doubling gives the same numbers in a quarter of the time
        total: Tensor = inner + _double(self.conv_sc(features))
        return total


class DiscriminatorBlock(nn.Module):
    """(N, in, H, W) -> (N, out, H, W), or half the size; the first block has no ReLU before it."""

    def __init__(self, in_channels: int, out_channels: int, *, first: bool, halve: bool) -> None:
        super().__init__()
        self.first = first
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        straight = in_channels == out_channels and not halve
        self.conv_sc = nn.Identity() if straight else nn.Conv2d(in_channels, out_channels, 1)
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()

    def forward(self, features: Tensor, y: Tensor | None = None) -> Tensor:
        """A block that halves needs even sides."""
        inner = self.conv2(F.relu(self.conv1(features if self.first else F.relu(features))))
        # the mean before a 1x1 convolution gives the same as after it
        total: Tensor = self.pool(inner) + self.conv_sc(self.pool(features))
        return total


class Generator(nn.Module):
    """Latents (N, Z), labels (N,) -> images (N, C, H, W) in (-1, 1)."""

    def __init__(self, made: BigGAN, images: ganzoo.ImageSpec, base: tuple[int, int], doublings: int) -> None:
        super().__init__()
        inputs, outputs = ([made.width * n for n in side] for side in _widths(doublings)[:2])
        self.chunk = made.latent_dim // (doublings + 1) if made.hierarchical else 0
        if made.hierarchical and not self.chunk:
            raise ganzoo.RefusedSpec(
                f"biggan splits a latent into {doublings + 1} chunks at {images.height}x{images.width}: give "
                f"latent_dim={20 * (doublings + 1)}."
            )
        self.base = (inputs[0], *base)
        self.shared = nn.Embedding(images.classes, made.shared) if made.shared else None
        y = made.shared + self.chunk if made.shared else images.classes
        self.linear = nn.Linear(self.chunk or made.latent_dim, inputs[0] * base[0] * base[1])
        self.blocks = nn.ModuleList()
        for index, (before, after) in enumerate(zip(inputs, outputs, strict=True)):
            layers: list[nn.Module] = [GeneratorBlock(before, after, y, tables=not made.shared)]
            if min(base) << index + 1 == made.attention:
                layers.append(Attention(after))
            self.blocks.append(nn.ModuleList(layers))
        last = nn.Conv2d(outputs[-1], images.channels, 3, padding=1)
        self.output_layer = nn.ModuleList([LastBatchNorm(outputs[-1]), nn.ReLU(), last])

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """The rest of a latent that cannot be split into equal chunks is not used."""
        y = labels if self.shared is None else self.shared(labels)
        first, *chunks = torch.split(latents, self.chunk, dim=1) if self.chunk else (latents,)
        features = self.linear(first).view(-1, *self.base)
        for index, layers in enumerate(self.blocks):
            own = torch.cat([y, chunks[index]], dim=1) if self.chunk else y
            for layer in layers:  # type: ignore[attr-defined]
                features = layer(features, own)
        for layer in self.output_layer:
            features = layer(features)
        return torch.tanh(features)


class Discriminator(nn.Module):
    """Images (N, C, H, W) and labels (N,) -> logits (N, 1)."""

    def __init__(self, made: BigGAN, images: ganzoo.ImageSpec, doublings: int) -> None:
        super().__init__()
        outputs = [made.discriminator_width * n for n in _widths(doublings)[2]]
        halvings = max(1, doublings - 1) if doublings < 4 else doublings
        self.blocks = nn.ModuleList()
        for index, (before, after) in enumerate(zip([images.channels, *outputs], outputs, strict=False)):
            layers: list[nn.Module] = [DiscriminatorBlock(before, after, first=not index, halve=index < halvings)]
            # the program's sizes at which it looks for attention; at 32 pixels it takes 16 for all blocks
            size = min(images.height, images.width) >> (1 if doublings < 4 else min(index + 1, halvings))
            if size == made.attention:
                layers.append(Attention(after))
            self.blocks.append(nn.ModuleList(layers))
        self.linear = nn.Linear(outputs[-1], 1)
        self.embed = nn.Embedding(images.classes, outputs[-1])

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """One logit for each image: how real it looks as an image of its class."""
        features = images
        for layers in self.blocks:
            for layer in layers:  # type: ignore[attr-defined]
                features = layer(features)
        features = F.relu(features).sum(dim=(2, 3))
        logits: Tensor = self.linear(features) + (self.embed(labels) * features).sum(dim=1, keepdim=True)
        return logits


def _widths(doublings: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Channels of the generator's blocks, before and after, and of the discriminator's, in units."""
    if doublings >= min(_WIDTHS):
        return _WIDTHS[doublings]
    return (4,) * doublings, (4,) * doublings, _WIDTHS[3][2]


def _double(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


def _initialise(network: nn.Module, init: str, eps: float) -> None:
    """Draw the weights of all layers and tables, and give them spectral norm, but for the generator's tables.

    The embedding that the generator's norms share is marked: the orthogonal regularisation leaves it out.
    """
    draw = nn.init.orthogonal_ if init == "ortho" else lambda weight: nn.init.normal_(weight, std=0.02)
    shared = getattr(network, "shared", None)
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            draw(layer.weight)
            if isinstance(layer, nn.Embedding) and isinstance(network, Generator):
                layer.weight.not_orthogonal = layer is shared  # type: ignore[attr-defined]
            else:
                spectral_norm(layer, eps=eps)
