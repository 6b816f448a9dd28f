"""For which images a recipe of an architecture is a good choice: what `ganzoo recommend` compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Suited:
    """A recipe of an architecture, and the images, the device and the time that it is made for.

    `ganzoo recommend` takes, among all architectures, the recipe with the most `merit` that suits the dataset and the
    device, and that sees `needs` images in the time that there is. The time of a step is measured.
    """

    #: the variant of the recipe; empty: the recipe itself
    recipe: str = ""
    #: the smallest and the largest shorter side of the images, in pixels
    sides: tuple[int, int]
    #: the smallest and the largest number of training images
    images: tuple[int, int] = (1, 1_000_000_000)
    #: "cpu" or "cuda": only on such a device; empty: on any
    device: str = ""
    #: options of the architecture beside those of the variant
    options: Mapping[str, Any] = field(default_factory=dict)
    #: options with which the networks use the classes, where the images have classes with enough images
    with_classes: Mapping[str, Any] = field(default_factory=dict)
    #: from 1 to 10: how good the images become with time enough
    merit: int
    #: number of real images seen until the samples show more than colours and blurs
    needs: int
    #: why, in a few words behind "it": "learns from few images"
    reason: str

    def __post_init__(self) -> None:
        low, high = self.sides
        if not (1 <= low <= high and 1 <= self.images[0] <= self.images[1] and 1 <= self.merit <= 10 and self.needs):
            raise ValueError(f"{self}: sides and images are (smallest, largest), merit is 1 to 10, needs is above 0")
