"""Base of the datasets that keep all images in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import click
import torch
from torch import Tensor

import ganzoo

Split = Literal["train", "test"]
#: of pictures that are decoded when they are read
Channels = Annotated[Literal[0, 1, 3], "1 for grey, 3 for colour; 0 if the pictures agree, to keep it"]
Size = Annotated[int, click.IntRange(min=0), "height and width to resize to; 0 for the images' own"]


class InMemory(ganzoo.Dataset):
    """A split whose images (N, C, H, W) uint8 and labels (N,) int64 lie in memory."""

    def __init__(
        self, images: Tensor, labels: Tensor, class_names: Sequence[str], archives: Sequence[ganzoo.Archive] = ()
    ) -> None:
        self.spec = ganzoo.ImageSpec(*images.shape[1:], classes=len(class_names))
        self.class_names = tuple(class_names)
        self._images = images
        self._labels = labels.long()
        self._archives = archives

    def __len__(self) -> int:
        return len(self._images)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of the images and labels."""
        return self._images[indices], self._labels[indices]

    def verify(self) -> str:
        """Also the sha256 of the archives the split was read from."""
        for archive in self._archives:
            archive.check()
        checked = f", sha256 of {', '.join(archive.name for archive in self._archives)}" if self._archives else ""
        return super().verify() + checked


def resized(images: Tensor, size: int) -> Tensor:
    """uint8 images (N, C, H, W) as squares of `size` (0: as they are), by `ganzoo.resize`."""
    if not size:
        return images
    # in parts: the floats in between take four times the room
    return torch.cat([ganzoo.resize(part, size) for part in torch.split(images, 1000)])
