"""Damage: real images made worse in known steps, to see what an evaluator says of them. The same every time."""

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

#: to be raised with any change of a damage: what is known of another edition is not used
_EDITION = 1
_BATCH = 500
#: standard deviations of noise, of 255, and of the blur, in pixels
NOISES, BLURS = (5, 10, 20, 40), (0.5, 1, 2)
#: shares of the classes that go missing: 1, 3 and 5 of ten
MISSING = (0.1, 0.3, 0.5)

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Corruption:
    """Real images under one damage, in the place of fakes."""

    damage: str
    #: in the damage's own unit; the name of another dataset
    strength: float | str
    #: uint8 images (N, C, H, W) and labels (N,) before the damage
    source: Pair
    apply: Callable[[Tensor], Tensor] = lambda images: images

    def __len__(self) -> int:
        return len(self.source[0])

    def batches(self) -> Iterator[Pair]:
        """The damaged images and their labels; the same every time."""
        images, labels = self.apply(self.source[0]), self.source[1]
        return zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True)

    def facts(self) -> dict[str, Any]:
        """What tells it from all others."""
        sha = hashlib.sha256()
        for tensor in self.source:
            sha.update(tensor.contiguous().numpy().tobytes())
        known = {"damage": self.damage, "strength": self.strength, "sha256": sha.hexdigest(), "images": len(self)}
        return {"edition": _EDITION, **known}


def corruption_label(damage: str, strength: float | str) -> str:
    """A condition in words."""
    words = {
        "none": "undamaged",
        "noise": f"noise, sd {strength} of 255",
        "blur": f"blur, sd {strength} pixels",
        "missing classes": f"{strength} {'class' if strength == 1 else 'classes'} missing",
        "memorised": f"{strength} training images repeated",
        "other dataset": f"images of {strength}",
    }
    return words.get(damage, damage)


def choose_images(dataset: Dataset, count: int) -> Pair:
    """`count` images of a dataset and their labels, drawn without replacement, in the dataset's order."""
    drawn = torch.randperm(len(dataset), generator=seeds.generator("cpu", "calibration", "which images"))
    return dataset.read(drawn[:count].sort().values)


def missing_counts(classes: int) -> list[int]:
    """How many classes go missing: 1, 3, 5 of ten, as many tenths of more or fewer; at least one stays."""
    counts = (max(1, round(classes * share)) for share in MISSING)
    return sorted({count for count in counts if count < classes})


def add_noise(images: Tensor, deviation: float) -> Tensor:
    """uint8 images with Gaussian noise of so many of 255, rounded and clamped."""
    generator = seeds.generator("cpu", "calibration", "noise", str(deviation))
    return to_uint8(images.float() + deviation * torch.randn(images.shape, generator=generator), (0, 255))


def blur(images: Tensor, deviation: float) -> Tensor:
    """uint8 images under a Gaussian of so many pixels, cut off at four of them; the border is repeated outwards."""
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
    """uint8 images of the same shape, every value as likely as any other."""
    generator = seeds.generator("cpu", "calibration", "uniform noise")
    return torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=generator)
