"""The digits that come with scikit-learn."""

from __future__ import annotations

from typing import Annotated

import click
import torch
from torch.nn.functional import interpolate

import ganzoo
from ganzoo_plugins.datasets._memory import InMemory, Split


class Digits(InMemory):
    """Small handwritten digits, 1,498 + 299 grey images, 10 classes: no download, for a first try and for tests.

    `sklearn.datasets.load_digits`, the test set of Alpaydin and Kaynak's "Optical recognition of handwritten digits"
    (UCI, 1998): 8x8 pixels in 17 grey levels, spread over 0..255. Enlarged with bicubic interpolation, which blurs the
    strokes less than the bilinear one of the other datasets. Every sixth image is a test image.
    """

    def __init__(
        self,
        *,
        split: Split = "train",
        size: Annotated[int, click.IntRange(min=0), "height and width to resize to; 0 for their own 8x8"] = 16,
    ) -> None:
        from sklearn.datasets import load_digits

        values, targets = load_digits(return_X_y=True)
        # (1797, 1, 8, 8) in 0..16
        images = torch.from_numpy(values).float().reshape(-1, 1, 8, 8).mul(255 / 16)
        if size:
            images = interpolate(images, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
        chosen = (torch.arange(len(images)) % 6 == 5) == (split == "test")
        super().__init__(ganzoo.to_uint8(images, (0, 255))[chosen], torch.from_numpy(targets)[chosen], "0123456789")
