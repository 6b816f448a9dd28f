"""Differentiable augmentation of the discriminator's inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import click
import torch
from torch import Tensor

import ganzoo


class DiffAugment(ganzoo.Augmentation):
    """Random colour, translation and cutout of reals and fakes, for training with little data.

    Zhao et al. 2020 (arXiv:2006.10738), section 3 and appendix; strengths and distributions of their code
    (mit-han-lab/data-efficient-gans, DiffAugment_pytorch.py). Random numbers are drawn for each image:

    color: brightness, a shift of up to a quarter of the value range up or down; saturation, times 0 to 2 (images
    of one channel keep theirs, and the number is drawn all the same, as in their code); contrast, times 0.5 to 1.5.
    translation: up to 1/8 of the size in each direction, rows and columns.
    cutout: a rectangle of half the height and half the width around a random centre, cropped at the border.

    Images may have any value range; nothing is clamped. `span` is the width of that range, on which only the brightness
    depends. Pixels that are moved in or cut out become 0: mid-grey in [-1, 1], black in [0, 1].
    """

    former_options: ClassVar[Mapping[str, Any]] = {"saturation": "skipped"}

    def __init__(
        self,
        *,
        policy: Annotated[str, "any of color, translation, cutout, in order, joined by commas or pluses"] = (
            "color,translation,cutout"
        ),
        span: Annotated[
            float, click.FloatRange(0, min_open=True), "width of the images' value range: 2 for [-1, 1], 1 for [0, 1]"
        ] = 2.0,
        saturation: Annotated[
            Literal["drawn", "skipped"], "images of one channel: whether its number, which changes nothing, is drawn"
        ] = "drawn",
    ) -> None:
        super().__init__()
        self.span, self.saturation = span, saturation
        changes = {"color": self._color, "translation": _translate, "cutout": _cut_out}
        # pluses are allowed too, because on the command line a comma separates options
        names = [name.strip() for name in re.split("[,+]", policy)]
        if not set(names) <= set(changes) or len(set(names)) < len(names):
            raise ganzoo.UsageError(
                f"diffaugment: policy={policy!r} must name some of {', '.join(changes)}, each once; join them by '+'."
            )
        self.changes = [changes[name] for name in names]

    def forward(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) in any range -> the same shape."""
        for change in self.changes:
            images = change(images)
        return images

    def _color(self, images: Tensor) -> Tensor:
        images = images + (_draw(images) - 0.5) * self.span / 2
        if images.shape[1] > 1 or self.saturation == "drawn":
            images = _stretch(images, images.mean(dim=1, keepdim=True), 2 * _draw(images))
        return _stretch(images, images.mean(dim=(1, 2, 3), keepdim=True), 0.5 + _draw(images))


def _draw(images: Tensor) -> Tensor:
    """(N, 1, 1, 1): one number for each image, uniform in [0, 1)."""
    return torch.rand(len(images), 1, 1, 1, dtype=images.dtype, device=images.device)


def _stretch(images: Tensor, centre: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance of every pixel to `centre`."""
    return (images - centre) * factor + centre


def _translate(images: Tensor) -> Tensor:
    for axis in (2, 3):
        size = images.shape[axis]
        reach = (size + 4) // 8  # size / 8, rounded, a half upwards
        shifts = torch.randint(-reach, reach + 1, (len(images), 1), device=images.device)
        sources = torch.arange(size, device=images.device) + shifts  # (N, size): where each pixel comes from
        inside = (sources >= 0) & (sources < size)
        # clamped sources repeat border pixels, which the mask then sets to 0. So the gradient of a pixel has one term
        # and does not depend on an order of summation
        images = images.gather(axis, _along(sources.clamp(0, size - 1), axis).expand_as(images)) * _along(inside, axis)
    return images


def _cut_out(images: Tensor) -> Tensor:
    masks = []
    for axis in (2, 3):
        size = images.shape[axis]
        length = (size + 1) // 2
        # a rectangle of an even length has its centre between two pixels: there is one more position
        centres = torch.randint(0, size + 1 - length % 2, (len(images), 1), device=images.device)
        offsets = torch.arange(size, device=images.device) - (centres - length // 2)
        masks.append(_along((offsets >= 0) & (offsets < length), axis))
    return images * ~(masks[0] & masks[1])


def _along(values: Tensor, axis: int) -> Tensor:
    """(N, size) values as (N, 1, size, 1) along axis 2 or (N, 1, 1, size) along axis 3."""
    return values[:, None, :, None] if axis == 2 else values[:, None, None, :]
