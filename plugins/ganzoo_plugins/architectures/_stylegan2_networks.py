"""The networks of StyleGAN2: mapping, synthesis and discriminator."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganzoo_plugins.layers.equalised import Conv, Dense, StyleConv, ToImage, doubled, unit
from ganzoo_plugins.layers.processes import gather_over_processes, sum_over_processes

#: learning rate of the mapping networks, relative to the others
_MAPPING_RATE = 0.01
#: the mean of the styles keeps this share of its value at each update
_MEAN_DECAY = 0.995
#: layers of the mapping network of the discriminator, for classes
_CLASS_LAYERS = 8
_EPS = 1e-8


@dataclass(frozen=True)
class Sizes:
    """The sizes that both networks share."""

    #: pixels of a side of the images, a power of two
    resolution: int
    #: colours of the images
    colours: int
    #: classes that the networks use; 0: none
    classes: int
    #: channels at r pixels are `base` / r, at most `most`
    base: int
    most: int
    #: activations are clamped to -clamp..clamp; 0: they are not
    clamp: float
    #: the highest resolutions that compute in low precision under autocast
    low_precision: int

    @property
    def stages(self) -> list[int]:
        """4, 8, ..., `resolution`."""
        return [2**k for k in range(2, self.resolution.bit_length())]

    def channels(self, resolution: int) -> int:
        """Channels of the features at a resolution."""
        return max(1, min(self.base // resolution, self.most))

    def is_low(self, resolution: int) -> bool:
        """Whether a stage computes in low precision under autocast; that of 4 pixels never does."""
        return resolution >= max(8, 2 * self.resolution >> self.low_precision)


def full_precision(values: Tensor) -> AbstractContextManager[object]:
    """No autocast on the device of `values`."""
    # the device `meta`, which has no values, has no autocast
    return nullcontext() if values.device.type == "meta" else torch.autocast(values.device.type, enabled=False)


class Mapping(nn.Module):
    """Latents (N, Z) and labels (N,) -> styles (N, W), each through `layers` layers with LeakyReLU.

    Latents and the embeddings of the labels are scaled to a root mean square of 1. `latent_dim` is 0 for classes alone,
    `classes` is 0 for latents alone.
    """

    def __init__(self, latent_dim: int, classes: int, outputs: int, layers: int) -> None:
        super().__init__()
        self.embed = Dense(classes, outputs) if classes else None
        inputs = latent_dim + (outputs if classes else 0)
        self.layers = [f"fc{index}" for index in range(layers)]
        for name in self.layers:
            self.add_module(name, Dense(inputs, outputs, rate=_MAPPING_RATE, active=True))
            inputs = outputs

    def forward(self, latents: Tensor | None, labels: Tensor) -> Tensor:
        """`latents` is None for classes alone."""
        parts = [] if latents is None else [unit(latents)]
        parts += [] if self.embed is None else [unit(self.embed.of_classes(labels))]
        styles = torch.cat(parts, dim=1)
        for name in self.layers:
            styles = getattr(self, name)(styles)
        return styles


class StyleMapping(Mapping):
    """The mapping of the generator, which keeps the moving mean of its styles for truncation."""

    w_avg: Tensor

    def __init__(self, latent_dim: int, classes: int, outputs: int, layers: int) -> None:
        super().__init__(latent_dim, classes, outputs, layers)
        self.register_buffer("w_avg", torch.zeros(outputs))

    @torch.no_grad()
    def update_mean(self, styles: Tensor) -> None:
        """Move the mean towards that of styles (N, W), over all processes."""
        total, processes = sum_over_processes(styles.mean(dim=0))
        self.w_avg.lerp_((total / processes).to(self.w_avg.dtype), 1 - _MEAN_DECAY)


class SynthesisBlock(nn.Module):
    """One resolution: features (N, C, H, W) doubled to (N, C', 2 H, 2 W), or the learnt constant at 4 pixels."""

    def __init__(self, sizes: Sizes, resolution: int, styles: int) -> None:
        super().__init__()
        channels, clamp = sizes.channels(resolution), sizes.clamp
        self.low, self.first = sizes.is_low(resolution), resolution == 4
        if self.first:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
        else:
            below = sizes.channels(resolution // 2)
            self.conv0 = StyleConv(below, channels, styles, resolution, doubling=True, clamp=clamp)
        self.conv1 = StyleConv(channels, channels, styles, resolution, doubling=False, clamp=clamp)
        self.torgb = ToImage(channels, sizes.colours, styles, clamp=clamp)

    def forward(
        self, features: Tensor | None, images: Tensor | None, rows: list[Tensor], noise: str
    ) -> tuple[Tensor, Tensor]:
        """(features, images) after the block. `rows` are the styles (N, W) of its convolutions and its image."""
        if features is None:
            features = self.const.expand(rows[0].shape[0], -1, -1, -1)
        else:
            features = self.conv0(features, rows[0], noise)
        features = self.conv1(features, rows[-2], noise)
        image = self.torgb(features, rows[-1])
        with full_precision(image):
            image = image.to(self.torgb.weight.dtype)
            return features, image if images is None else doubled(images) + image


class Synthesis(nn.Module):
    """Styles (N, rows, W) -> images (N, K, R, R): an image at each resolution, doubled and added to the next."""

    def __init__(self, sizes: Sizes, styles: int) -> None:
        super().__init__()
        self.resolutions = sizes.stages
        for resolution in self.resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(sizes, resolution, styles))
        #: rows of styles: of each convolution one, and one for the last image; an image shares its row with the first
        #: convolution of the next block
        self.rows = 2 * len(self.resolutions)

    def blocks(self) -> list[SynthesisBlock]:
        """The blocks, from 4 pixels up."""
        return [getattr(self, f"b{resolution}") for resolution in self.resolutions]

    def forward(self, styles: Tensor, noise: str) -> Tensor:
        """`noise`: see `StyleConv`."""
        features: Tensor | None = None
        images: Tensor | None = None
        row = 0
        for block in self.blocks():
            convolutions = 1 if block.first else 2
            rows = list(styles[:, row : row + convolutions + 1].unbind(1))
            row += convolutions
            if block.low:
                features, images = block(features, images, rows, noise)
            else:
                with full_precision(styles):
                    features, images = block(features, images, rows, noise)
        assert images is not None  # noqa: S101  (for the type checker: there is at least one block)
        return images


class Generator(nn.Module):
    """Latents (N, Z) -> images (N, K, R, R), unbounded.

    In training mode some batches mix two latents (`mixing` is the probability), and the mean of the styles moves. In
    inference mode the noise is `constant` where `noise` is `random`, and `truncation` below 1 pulls the styles towards
    their mean.
    """

    def __init__(
        self, sizes: Sizes, latent_dim: int, styles: int, layers: int, mixing: float, noise: str = "random"
    ) -> None:
        super().__init__()
        self.mapping = StyleMapping(latent_dim, sizes.classes, styles, layers)
        self.synthesis = Synthesis(sizes, styles)
        self.mixing, self.noise, self.truncation = mixing, noise, 1.0

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """`labels` are used where there are classes."""
        return self.images(self.styles(latents, labels))

    def styles(self, latents: Tensor, labels: Tensor) -> Tensor:
        """The styles (N, rows, W) of latents (N, Z)."""
        with full_precision(latents):
            first = self.mapping(latents, labels)
            styles: Tensor = first[:, None].expand(-1, self.synthesis.rows, -1)
            if not self.training:
                return styles if self.truncation == 1 else self.truncated(styles, self.truncation)
            self.mapping.update_mean(first)
            if not self.mixing:
                return styles
            rows = mixed_rows(latents, self.synthesis.rows, self.mixing)
            return torch.where(rows[:, None], self.mapping(second_latents(latents), labels)[:, None], styles)

    def images(self, styles: Tensor) -> Tensor:
        """The images of styles (N, rows, W)."""
        images: Tensor = self.synthesis(styles, self.noise if self.training or self.noise != "random" else "constant")
        return images

    def truncated(self, styles: Tensor, truncation: float, rows: int | None = None) -> Tensor:
        """Styles pulled towards their mean, all of them or the first `rows` (Karras et al. 2019, arXiv:1812.04948)."""
        pulled = self.mapping.w_avg.lerp(styles, truncation)
        return pulled if rows is None else torch.cat([pulled[:, :rows], styles[:, rows:]], dim=1)


def mixed_rows(latents: Tensor, rows: int, probability: float) -> Tensor:
    """(rows,) bool: the rows from a random one of 1..rows - 1 on, with this probability; else none."""
    cut = torch.randint(1, rows, (), device=latents.device)
    cut = torch.where(torch.rand((), device=latents.device) < probability, cut, rows)
    return torch.arange(rows, device=latents.device) >= cut


def second_latents(latents: Tensor) -> Tensor:
    """Latents (N, Z) to mix with others."""
    return torch.randn_like(latents)


class Block(nn.Module):
    """Features (N, C, H, W) -> (N, C', H / 2, W / 2): two 3x3 convolutions, with a 1x1 shortcut if `residual`."""

    def __init__(self, sizes: Sizes, resolution: int, residual: bool) -> None:
        super().__init__()
        inputs, outputs, clamp = sizes.channels(resolution), sizes.channels(resolution // 2), sizes.clamp
        self.low = sizes.is_low(resolution)
        first = resolution == sizes.resolution
        self.fromrgb = Conv(sizes.colours, inputs, 1, clamp=clamp) if first else None
        gain = math.sqrt(0.5) if residual else 1.0
        self.skip = Conv(inputs, outputs, 1, halve=True, active=False, gain=gain) if residual else None
        self.conv0 = Conv(inputs, inputs, 3, clamp=clamp)
        self.conv1 = Conv(inputs, outputs, 3, halve=True, gain=gain, clamp=clamp)

    def forward(self, features: Tensor) -> Tensor:
        """The first block gets images."""
        if not self.low:
            features = features.to(self.conv0.weight.dtype)
        features = features if self.fromrgb is None else self.fromrgb(features)
        outputs: Tensor = self.conv1(self.conv0(features))
        return outputs if self.skip is None else self.skip(features) + outputs


class Epilogue(nn.Module):
    """Features (N, C, 4, 4) -> (N, outputs), after a channel with their deviation over a group of images."""

    def __init__(self, channels: int, outputs: int, group: int, clamp: float) -> None:
        super().__init__()
        self.group = group
        self.conv = Conv(channels + (group > 1), channels, 3, clamp=clamp)
        self.fc = Dense(16 * channels, channels, active=True)
        self.out = Dense(channels, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """In inference mode every image is a group of its own, so that its logit does not depend on the others."""
        features = features.to(self.fc.weight.dtype)
        if self.group > 1:
            deviation = group_deviation(features, self.group if self.training else 1)
            features = torch.cat([features, deviation[:, None, None, None].expand(-1, 1, 4, 4)], dim=1)
        outputs: Tensor = self.out(self.fc(self.conv(features).flatten(1)))
        return outputs


def group_deviation(features: Tensor, group: int) -> Tensor:
    """(N,): the deviation of features (N, C, H, W) over the images of a group, averaged over channels and places.

    Karras et al. 2018 (arXiv:1710.10196), section 3. With N / G groups of G, image n belongs to group n mod (N / G).
    G is the largest number up to `group` that divides N. N images are those of all processes.
    """
    own = len(features)
    features, first = gather_over_processes(features) if group > 1 else (features, 0)
    count = len(features)
    members = next(size for size in range(min(group, count), 0, -1) if count % size == 0)
    groups = features.reshape(members, count // members, -1)
    deviations: Tensor = (groups.var(dim=0, correction=0) + _EPS).sqrt().mean(dim=1)
    return deviations.repeat(members)[first : first + own]


class Discriminator(nn.Module):
    """Images (N, K, R, R) -> logits (N, 1); with classes, the product of features with a map of the label."""

    def __init__(self, sizes: Sizes, group: int, residual: bool) -> None:
        super().__init__()
        self.resolutions = [resolution for resolution in reversed(sizes.stages) if resolution > 4]
        for resolution in self.resolutions:
            self.add_module(f"b{resolution}", Block(sizes, resolution, residual))
        channels = sizes.channels(4)
        self.b4 = Epilogue(channels, channels if sizes.classes else 1, group, sizes.clamp)
        self.mapping = Mapping(0, sizes.classes, channels, _CLASS_LAYERS) if sizes.classes else None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """`labels` are used where there are classes."""
        features = images
        for resolution in self.resolutions:
            block: Block = getattr(self, f"b{resolution}")
            if block.low:
                features = block(features)
            else:
                with full_precision(features):
                    features = block(features)
        with full_precision(features):
            outputs: Tensor = self.b4(features)
            if self.mapping is None:
                return outputs
            directions: Tensor = self.mapping(None, labels)
            return (outputs * directions).sum(dim=1, keepdim=True) / math.sqrt(directions.shape[1])
