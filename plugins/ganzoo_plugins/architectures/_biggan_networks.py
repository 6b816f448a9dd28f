"""The networks of BigGAN: class-conditional residual blocks, spectral norm in both, self attention at one size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.layers.spectral import spectral_norm

#: doublings of the generator -> input and output channels of its blocks, and output channels of the discriminator's
_WIDTHS: Mapping[int, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    3: ((4, 4, 4), (4, 4, 4), (4, 4, 4, 4)),
    4: ((16, 16, 8, 4), (16, 8, 4, 2), (1, 2, 4, 8, 16)),
    5: ((16, 16, 8, 4, 2), (16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16)),
    6: ((16, 16, 8, 8, 4, 2), (16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16)),
}
#: output channels of the program StudioGAN, where they differ: at 64 pixels its blocks narrow one size earlier
_STUDIOGAN_WIDTHS = {**_WIDTHS, 4: ((16, 8, 4, 2), (8, 4, 2, 1), (1, 2, 4, 8, 16))}
LARGEST_DOUBLINGS = max(_WIDTHS)
#: added to the variance in the batch norms of StudioGAN
_STUDIOGAN_EPS = 1e-4


@dataclass(frozen=True)
class Setting:
    """What the networks are built from; the names are those of the architecture's options."""

    latent_dim: int
    width: int
    discriminator_width: int
    shared: int
    hierarchical: bool
    attention: int
    init: str
    norm_eps: float
    #: whether they are those of POSTECH-CVLab/PyTorch-StudioGAN, see `as_studiogan`
    studiogan: bool = False


class BatchNorm(nn.Module):
    """Batch norm without parameters, times 1 + gain(y), plus bias(y): tables of classes, or linear maps of y."""

    stored_mean: Tensor
    stored_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int, inputs: int, *, tables: bool) -> None:
        super().__init__()
        make = (lambda: nn.Embedding(inputs, channels)) if tables else (lambda: nn.Linear(inputs, channels, bias=False))
        self.gain, self.bias = make(), make()
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, features: Tensor, y: Tensor) -> Tensor:
        """(N, C, H, W) features; `y` labels (N,), or their embedding (N, inputs)."""
        gain, bias = (layer(y)[:, :, None, None] for layer in (self.gain, self.bias))
        statistics = self.stored_mean, self.stored_var
        normalised = F.batch_norm(features, *statistics, training=self.training, momentum=0.1, eps=self.eps)
        return torch.addcmul(bias, normalised, 1 + gain)


class LastBatchNorm(nn.Module):
    """Batch norm with a scale and a shift of its own, under the names of the program."""

    stored_mean: Tensor
    stored_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """The same shape."""
        statistics = self.stored_mean, self.stored_var
        return F.batch_norm(features, *statistics, self.gain, self.bias, self.training, momentum=0.1, eps=self.eps)


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
        #: whether the shortcut sees relu(x), as in programs that rectify features in place
        self.first, self.rectified = first, False
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        straight = in_channels == out_channels and not halve
        self.conv_sc = nn.Identity() if straight else nn.Conv2d(in_channels, out_channels, 1)
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()

    def forward(self, features: Tensor, y: Tensor | None = None) -> Tensor:
        """A block that halves needs even sides."""
        rectified = features if self.first else F.relu(features)
        inner = self.conv2(F.relu(self.conv1(rectified)))
        # the mean before a 1x1 convolution gives the same as after it
        total: Tensor = self.pool(inner) + self.conv_sc(self.pool(rectified if self.rectified else features))
        return total


class Generator(nn.Module):
    """Latents (N, Z), labels (N,) -> images (N, C, H, W) in (-1, 1)."""

    def __init__(self, made: Setting, images: ganzoo.ImageSpec, base: tuple[int, int], doublings: int) -> None:
        super().__init__()
        inputs, outputs = ([made.width * n for n in side] for side in _widths(made, doublings)[:2])
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

    def __init__(self, made: Setting, images: ganzoo.ImageSpec, doublings: int) -> None:
        super().__init__()
        outputs = [made.discriminator_width * n for n in _widths(made, doublings)[2]]
        halvings = max(1, doublings - 1) if doublings < 4 else doublings
        self.blocks = nn.ModuleList()
        for index, (before, after) in enumerate(zip([images.channels, *outputs], outputs, strict=False)):
            layers: list[nn.Module] = [DiscriminatorBlock(before, after, first=not index, halve=index < halvings)]
            # the program's sizes at which it looks for attention; at 32 pixels it takes 16 for all blocks
            halved = 1 if doublings < 4 and not made.studiogan else min(index + 1, halvings)
            again = made.studiogan and index >= halvings
            if min(images.height, images.width) >> halved == made.attention and not again:
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


def _widths(made: Setting, doublings: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Channels of the generator's blocks, before and after, and of the discriminator's, in units."""
    if doublings >= min(_WIDTHS):
        return (_STUDIOGAN_WIDTHS if made.studiogan else _WIDTHS)[doublings]
    return (4,) * doublings, (4,) * doublings, _WIDTHS[3][2]


def _double(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


def initialise(network: nn.Module, made: Setting) -> None:
    """Draw the weights of all layers and tables, and give them spectral norm, but for the generator's tables.

    The embedding that the generator's norms share is marked: the orthogonal regularisation leaves it out.
    """
    draw = nn.init.orthogonal_ if made.init == "ortho" else lambda weight: nn.init.normal_(weight, std=0.02)
    shared = getattr(network, "shared", None)
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            draw(layer.weight)
            if isinstance(layer, nn.Embedding) and isinstance(network, Generator):
                layer.weight.not_orthogonal = layer is shared  # type: ignore[attr-defined]
            else:
                spectral_norm(layer, stored_v=made.studiogan, eps=made.norm_eps)
    if made.studiogan:
        _as_studiogan(network)


def _as_studiogan(network: nn.Module) -> None:
    """What StudioGAN does differently: eps of batch norms, zero biases, and ReLU in place in the discriminator."""
    for layer in network.modules():
        if isinstance(layer, BatchNorm | LastBatchNorm):
            layer.eps = _STUDIOGAN_EPS
        elif isinstance(layer, DiscriminatorBlock):
            layer.rectified = not layer.first
        elif isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
