"""Three MNIST digits in one image: the dataset on which modes are counted."""

from __future__ import annotations

from typing import Annotated

import click
import numpy as np
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._idx import archives_of, read_split
from ganzoo_plugins.datasets._memory import Size, Split, resized

_SEEDS = {"train": 0, "test": 1}


class StackedMNIST(ganzoo.Dataset):
    """Three random MNIST digits as red, green and blue: 1,000 classes, to count the modes a generator covers.

    Metz et al. 2017 (arXiv:1611.02163), section 3.3; Srivastava et al. 2017 (arXiv:1705.07761). The class is the number
    the three digits write, red first. Which digits are combined is drawn with a fixed seed, from the images of the same
    split of MNIST; a shorter `length` is the beginning of a longer one.
    """

    def __init__(
        self,
        *,
        split: Split = "train",
        size: Size = 0,
        length: Annotated[int, click.IntRange(min=0), "number of images; 0 for as many as MNIST has"] = 0,
    ) -> None:
        self._archives = archives_of("MNIST", split)
        images, self._digits = read_split("MNIST", split)
        # resizing treats each channel alone, so that it may come before stacking
        self._planes = resized(images, size).squeeze(1)
        # RandomState: numpy promises that its numbers never change
        triples = np.random.RandomState(_SEEDS[split]).randint(len(images), size=(length or len(images), 3))
        self._triples = torch.from_numpy(triples).long()
        self.spec = ganzoo.ImageSpec(3, *self._planes.shape[1:], classes=1000)
        self.class_names = tuple(f"{number:03d}" for number in range(1000))

    def __len__(self) -> int:
        return len(self._triples)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, H, W), stacked when read, and labels 100 red + 10 green + blue."""
        triples = self._triples[indices]
        return self._planes[triples], (self._digits[triples].long() * torch.tensor([100, 10, 1])).sum(dim=1)

    def verify(self) -> str:
        """Also the sha256 of the archives of MNIST."""
        for archive in self._archives:
            archive.check()
        return f"{super().verify()}, sha256 of {', '.join(archive.name for archive in self._archives)}"
