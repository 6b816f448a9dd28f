"""The images themselves, for evaluators that look at pixels."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

import ganzoo

#: part of the digest: change it when `forward` changes
VERSION = "pixels-1: float32 in [0, 1]"


class Pixels(ganzoo.Extractor):
    """The images as they are, float32 in [0, 1]: layer `pixels`, which keeps their shape. Needs no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = {"pixels": 0}
        self.digest = hashlib.sha256(VERSION.encode()).hexdigest()

    def bind(self, name: str, train: ganzoo.Dataset) -> None:
        """Set the size of the layer to the number of values of an image."""
        self.layers = {"pixels": train.spec.pixels}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (N, C, H, W) -> `pixels`: float32 (N, C, H, W) in [0, 1]."""
        if images.dtype != torch.uint8 or images.dim() != 4:
            given = f"{images.dtype} {tuple(images.shape)}"
            raise ganzoo.GanzooError(f"The pixels extractor takes uint8 images (N, C, H, W), not {given}.")
        return {"pixels": images.float() / 255}
