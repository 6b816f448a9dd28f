"""Corruptions: deterministic changes of known strength that make real images worse, to calibrate evaluators."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from ganzoo.contract.components import Dataset
from ganzoo.contract.images import to_uint8
from ganzoo.engine import seeds

#: increase this with any change of a corruption: cached scores of the old corruption are then not used
_EDITION = 1
_BATCH = 500
#: standard deviations of the noise, in grey levels of 0..255, and of the blur, in pixels
NOISES, BLURS = (5, 10, 20, 40), (0.5, 1, 2)
#: shares of the classes that are left out: 1, 3 and 5 of ten
MISSING = (0.1, 0.3, 0.5)

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Corruption:
    """Real images and one corruption of them. The corrupted images are scored as if they were fakes."""

    #: `none`, `noise`, `blur`, `missing classes`, `memorised`, `other dataset` or `uniform noise`
    kind: str
    #: in the unit of the kind (see `corruption_label`); the dataset's name for `other dataset`
    strength: float | str
    #: uint8 images (N, C, H, W) and labels (N,) before the corruption
    source: Pair
    apply: Callable[[Tensor], Tensor] = lambda images: images

    def __len__(self) -> int:
        return len(self.source[0])

    def batches(self) -> Iterator[Pair]:
        """The corrupted images and their labels, in batches."""
        images, labels = self.apply(self.source[0]), self.source[1]
        return zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True)

    def facts(self) -> dict[str, Any]:
        """All that identifies the corrupted images, for a cache key. The name `damage` is part of existing files."""
        sha = hashlib.sha256()
        for tensor in self.source:
            sha.update(tensor.contiguous().numpy().tobytes())
        content = {"damage": self.kind, "strength": self.strength, "sha256": sha.hexdigest(), "images": len(self)}
        return {"edition": _EDITION, **content}


def corruption_label(kind: str, strength: float | str) -> str:
    """The text for a corruption in tables and plots."""
    words = {
        "none": "undamaged",
        "noise": f"noise, sd {strength} of 255",
        "blur": f"blur, sd {strength} pixels",
        "missing classes": f"{strength} {'class' if strength == 1 else 'classes'} missing",
        "memorised": f"{strength} training images repeated",
        "other dataset": f"images of {strength}",
    }
    return words.get(kind, kind)


def choose_images(dataset: Dataset, count: int) -> Pair:
    """`count` images of a dataset and their labels, drawn without replacement, in the dataset's order."""
    drawn = torch.randperm(len(dataset), generator=seeds.generator("cpu", "calibration", "which images"))
    return dataset.read(drawn[:count].sort().values)


def missing_counts(classes: int) -> list[int]:
    """How many of `classes` classes to leave out: a tenth, three tenths and half of them; at least one stays."""
    counts = (max(1, round(classes * share)) for share in MISSING)
    return sorted({count for count in counts if count < classes})


def add_noise(images: Tensor, deviation: float) -> Tensor:
    """uint8 images plus Gaussian noise with this standard deviation in grey levels, rounded and clamped to 0..255."""
    generator = seeds.generator("cpu", "calibration", "noise", str(deviation))
    return to_uint8(images.float() + deviation * torch.randn(images.shape, generator=generator), (0, 255))


def blur(images: Tensor, deviation: float) -> Tensor:
    """uint8 images under a Gaussian filter with this standard deviation in pixels.

    The filter is cut off at four standard deviations; the pixels at the border are repeated outwards.
    """
    radius = math.ceil(4 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / deviation).square())
    weights /= weights.sum()
    channels = images.shape[1]
    column, row = weights.view(1, 1, -1, 1), weights.view(1, 1, 1, -1)
    parts = []
    for batch in torch.split(images, _BATCH):
        wide = pad(batch.float(), (radius, radius, radius, radius), mode="replicate")
        for kernel in (column, row):
            wide = conv2d(wide, kernel.expand(channels, -1, -1, -1), groups=channels)
        parts.append(to_uint8(wide, (0, 255)))
    return torch.cat(parts)


def uniform_noise(images: Tensor) -> Tensor:
    """uint8 images of the same shape whose values are uniformly distributed over 0..255."""
    generator = seeds.generator("cpu", "calibration", "uniform noise")
    return torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=generator)
