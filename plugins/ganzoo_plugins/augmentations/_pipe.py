"""The transformations of adaptive discriminator augmentation (ADA), each applied to some of the images.

Karras et al. 2020 (arXiv:2006.06676), appendix B. Strengths and distributions are those of the paper's program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

import ganzoo
from ganzoo_plugins.augmentations._warp import rotation, scaling, translation, warp

BLIT = ("xflip", "rotate90", "xint")
GEOMETRY = ("scale", "rotate", "aniso", "xfrac")
COLOUR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
TRANSFORMS = (*BLIT, *GEOMETRY, *COLOUR, "imgfilter", "noise", "cutout")
#: relative energy of natural images in the four bands of the filter
_ENERGY = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


def uniform(images: Tensor, *shape: int) -> Tensor:
    """(N, *shape) numbers in [0, 1)."""
    return torch.rand(len(images), *shape, dtype=images.dtype, device=images.device)


def normal(images: Tensor, *shape: int) -> Tensor:
    """(N, *shape) standard normal numbers."""
    return torch.randn(len(images), *shape, dtype=images.dtype, device=images.device)


class Pipe:
    """Applies transformations to images: `shares` has the share of each, which is multiplied by the strength p.

    Every transformation draws a value for each image, and then a number that decides whether it is applied to it.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = shares

    def __call__(self, images: Tensor, p: Tensor, taps: Tensor, bank: Tensor) -> Tensor:
        """images (N, C, H, W), strength p (), taps of the low-pass filter (12,), bank of filters (4, 43).

        Raises GanzooError for images that a transformation cannot change.
        """
        if any(self.shares.get(name) for name in (*BLIT, *GEOMETRY)):
            images = warp(images, self._geometry(images, p), taps)
        if any(self.shares.get(name) for name in COLOUR):
            images = self._recolour(images, p)
        if self.shares.get("imgfilter"):
            images = self._filter(images, p, bank)
        if self.shares.get("noise"):
            sigma = self._chosen("noise", 0.1 * normal(images).abs(), 0.0, images, p)
            images = images + normal(images, *images.shape[1:]) * sigma[:, None, None, None]
        return self._cut_out(images, p) if self.shares.get("cutout") else images

    def _chosen(self, name: str, values: Tensor, neutral: float, images: Tensor, p: Tensor) -> Tensor:
        """The values (N, ...) of the images that are chosen, `neutral` for the others."""
        chosen = uniform(images) < self.shares[name] * p
        return values.where(chosen.view(-1, *(1,) * (values.ndim - 1)), torch.full_like(values, neutral))

    def _geometry(self, images: Tensor, p: Tensor) -> Tensor:
        """(N, 3, 3): from a pixel of the result to the pixel it is sampled from."""
        height, width = images.shape[2:]
        size = torch.stack([images.new_full((), width), images.new_full((), height)])
        one = images.new_ones(len(images))
        inverse = scaling(one, one)
        if self.shares.get("xflip"):
            flipped = self._chosen("xflip", (2 * uniform(images)).floor(), 0, images, p)
            inverse = inverse @ scaling(1 - 2 * flipped, one)
        if self.shares.get("rotate90"):
            turns = self._chosen("rotate90", (4 * uniform(images)).floor(), 0, images, p)
            inverse = inverse @ rotation(turns * (math.pi / 2))
        if self.shares.get("xint"):
            moved = self._chosen("xint", (2 * uniform(images, 2) - 1) * 0.125, 0, images, p)
            x, y = (moved * size).round().unbind(1)
            inverse = inverse @ translation(-x, -y)
        if self.shares.get("scale"):
            factor = self._chosen("scale", torch.exp2(0.2 * normal(images)), 1, images, p)
            inverse = inverse @ scaling(1 / factor, 1 / factor)
        if self.shares.get("rotate"):
            inverse = inverse @ self._rotation(images, p)
        if self.shares.get("aniso"):
            factor = self._chosen("aniso", torch.exp2(0.2 * normal(images)), 1, images, p)
            inverse = inverse @ scaling(1 / factor, factor)
        if self.shares.get("rotate"):
            inverse = inverse @ self._rotation(images, p)
        if self.shares.get("xfrac"):
            moved = self._chosen("xfrac", 0.125 * normal(images, 2), 0, images, p)
            x, y = (moved * size).unbind(1)
            inverse = inverse @ translation(-x, -y)
        return inverse

    def _rotation(self, images: Tensor, p: Tensor) -> Tensor:
        """One of two rotations; at least one of them is applied with probability share times p."""
        angles = (2 * uniform(images) - 1) * math.pi
        chosen = uniform(images) < 1 - (1 - (self.shares["rotate"] * p).clamp(0, 1)).sqrt()
        return rotation(angles.where(chosen, torch.zeros_like(angles)))

    def _recolour(self, images: Tensor, p: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        if channels not in (1, 3):
            raise ganzoo.GanzooError(
                f"ada changes the colours of images with 1 or 3 channels, and these have {channels}: "
                f"choose its transformations without {', '.join(COLOUR)}, such as ada:pipe=bg."
            )
        changed = self._colours(images, p)
        pixels = images.reshape(count, channels, height * width)
        if channels == 3:
            pixels = changed[:, :3, :3] @ pixels + changed[:, :3, 3:]
        else:
            row = changed[:, :3].mean(dim=1, keepdim=True)
            pixels = pixels * row[:, :, :3].sum(dim=2, keepdim=True) + row[:, :, 3:]
        return pixels.reshape(images.shape)

    def _colours(self, images: Tensor, p: Tensor) -> Tensor:
        """(N, 4, 4): the change of a colour (red, green, blue, 1)."""
        identity = torch.eye(4, dtype=images.dtype, device=images.device)
        changed = identity.expand(len(images), 4, 4)
        grey = identity.new_full((4,), 3**-0.5) * (torch.arange(4, device=images.device) < 3)
        on_grey = torch.outer(grey, grey)
        if self.shares.get("brightness"):
            shift = self._chosen("brightness", 0.2 * normal(images), 0, images, p)[:, None, None]
            column = torch.outer(identity[:3].sum(dim=0), identity[3])  # 1 in the first three rows of the last column
            changed = (identity + shift * column) @ changed
        if self.shares.get("contrast"):
            factor = self._chosen("contrast", torch.exp2(0.5 * normal(images)), 1, images, p)[:, None, None]
            last = torch.outer(identity[3], identity[3])
            changed = (factor * (identity - last) + last) @ changed
        if self.shares.get("lumaflip"):
            flipped = self._chosen("lumaflip", (2 * uniform(images)).floor(), 0, images, p)[:, None, None]
            changed = (identity - 2 * on_grey * flipped) @ changed
        if self.shares.get("hue") and images.shape[1] > 1:
            angle = self._chosen("hue", (2 * uniform(images) - 1) * math.pi, 0, images, p)
            changed = _rotated_around_grey(angle, grey, identity) @ changed
        if self.shares.get("saturation") and images.shape[1] > 1:
            factor = self._chosen("saturation", torch.exp2(normal(images)), 1, images, p)[:, None, None]
            changed = (on_grey + (identity - on_grey) * factor) @ changed
        return changed

    def _filter(self, images: Tensor, p: Tensor, bank: Tensor) -> Tensor:
        """Images whose four frequency bands, an octave each, are amplified at random."""
        count, channels, height, width = images.shape
        bands, length = bank.shape
        pad = length // 2
        if min(height, width) <= pad:
            raise ganzoo.GanzooError(
                f"ada filters images of at least {pad + 1} pixels, not {height}x{width}: choose its transformations "
                "without imgfilter, such as ada:pipe=bgc."
            )
        gains = images.new_ones(count, bands)
        for band in range(bands):
            factor = self._chosen("imgfilter", torch.exp2(normal(images)), 1, images, p)
            here = torch.arange(bands, device=images.device) == band
            changed = torch.where(here, factor[:, None], torch.ones_like(gains))
            power = sum(energy * changed[:, index].square() for index, energy in enumerate(_ENERGY))
            gains = gains * (changed / power.sqrt()[:, None])  # type: ignore[union-attr]
        taps = (gains @ bank.to(images.dtype)).repeat_interleave(channels, dim=0)[:, None]  # (N * C, 1, 43)
        pixels = F.pad(images.reshape(1, count * channels, height, width), (pad, pad, pad, pad), mode="reflect")
        pixels = F.conv2d(pixels, taps[:, :, None], groups=count * channels)
        pixels = F.conv2d(pixels, taps[:, :, :, None], groups=count * channels)
        return pixels.reshape(images.shape)

    def _cut_out(self, images: Tensor, p: Tensor) -> Tensor:
        """Images in which a rectangle of half the width and half the height is 0."""
        length = self._chosen("cutout", images.new_full((len(images),), 0.5), 0, images, p)
        centres = uniform(images, 2)
        masks = []
        for axis, size in enumerate((images.shape[3], images.shape[2])):
            places = (torch.arange(size, dtype=images.dtype, device=images.device) + 0.5) / size
            masks.append((places - centres[:, axis, None]).abs() >= length[:, None] / 2)
        kept = masks[0][:, None, None, :] | masks[1][:, None, :, None]
        return images * kept.to(images.dtype)


def _rotated_around_grey(angle: Tensor, grey: Tensor, identity: Tensor) -> Tensor:
    """(N, 4, 4): rotations of colours by angles (N,) around the axis of greys (Rodrigues' formula)."""
    angle = angle[:, None, None]
    on_grey = torch.outer(grey, grey)
    last = torch.outer(identity[3], identity[3])
    # the matrix of the cross product with (1, 1, 1) / sqrt 3: cyclic shifts of the colours
    shifted = identity[:3].roll(1, dims=0)
    back = identity[:3].roll(-1, dims=0)
    cross = F.pad((shifted - back)[:, :3], (0, 1, 0, 1)) / math.sqrt(3)
    return on_grey + last + (identity - on_grey - last) * angle.cos() + cross * angle.sin()


def filter_bank() -> Tensor:
    """(4, 43) float64: filters of four octaves, lowest first, whose sum is 1 at every frequency.

    From the half-band filter of the wavelet sym2, (-1, 0, 9, 16, 9, 0, -1) / 32, and the one of the other half: a band
    is the low half of all finer levels, and the high half of its own.
    """
    low = torch.tensor([-1, 0, 9, 16, 9, 0, -1], dtype=torch.float64) / 32
    high = torch.tensor([1, 0, -9, 16, -9, 0, 1], dtype=torch.float64) / 32
    rows, below = [], torch.ones(1, dtype=torch.float64)
    for level in range(3):
        rows.append(_convolved(below, _spread(high, 2**level)))
        below = _convolved(below, _spread(low, 2**level))
    rows.append(below)
    length = len(below)
    return torch.stack([F.pad(row, ((length - len(row)) // 2,) * 2) for row in reversed(rows)])


def _spread(taps: Tensor, step: int) -> Tensor:
    spread = taps.new_zeros((len(taps) - 1) * step + 1)
    spread[::step] = taps
    return spread


def _convolved(first: Tensor, second: Tensor) -> Tensor:
    padding = len(second) - 1
    return F.conv1d(first[None, None], second.flip(0)[None, None], padding=padding)[0, 0]
