"""Image shapes, and the conversion between uint8 images and the value range of the networks."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn.functional import interpolate

ValueRange = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The shape of one image, (channels, height, width) in pixels, and the number of classes."""

    channels: int
    height: int
    width: int
    classes: int = 1

    @property
    def pixels(self) -> int:
        """Number of values in one image: channels x height x width."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


def to_range(images: Tensor, value_range: ValueRange) -> Tensor:
    """uint8 images (N, C, H, W) as floats: 0..255 becomes `value_range` (low, high)."""
    low, high = value_range
    return images.to(torch.get_default_dtype()).mul_((high - low) / 255).add_(low)


def to_uint8(images: Tensor, value_range: ValueRange) -> Tensor:
    """Images (N, C, H, W) in `value_range` as uint8: rounded, then clamped to 0..255."""
    low, high = value_range
    return images.float().sub(low).mul_(255 / (high - low)).round_().clamp_(0, 255).to(torch.uint8)


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """uint8 images (N, C, H, W) at another size, an int or (height, width): bilinear with antialiasing, rounded.

    Images that have this size already are returned as they are.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == (height, width):
        return images
    resized = interpolate(images.float(), size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return to_uint8(resized, (0, 255))
