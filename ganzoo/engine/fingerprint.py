"""A digest of real images: two sets with the same digest hold the same images and labels, in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from ganzoo.contract.images import ImageSpec

#: of a set of at most this many bytes, all images are hashed; of a larger set this many images, at equal distances
_ALL_BYTES = 1 << 28
_SOME_IMAGES = 1000
_BATCH_BYTES = 1 << 24
_BATCH_IMAGES = 4096


def images_sha256(
    read: Callable[[Tensor], tuple[Tensor, Tensor]], positions: Tensor, batch_size: int, header: str
) -> str:
    """sha256 of `header`, then of the images and the labels at `positions` (n,), in batches of `batch_size`.

    `read(positions)` returns images uint8 (n, C, H, W) and labels (n,) int64 on the CPU.

    The header and the batch size are part of the result: in each batch, the labels come after the images. A run
    (`training_images_sha256`) and the card of a score (`evaluation.features.Reals`) have different ones. They must not
    change: old runs could not be resumed, and old scores could not be compared with new ones.
    """
    sha = hashlib.sha256(header.encode())
    for start in range(0, len(positions), batch_size):
        for tensor in read(positions[start : start + batch_size]):
            sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()


def training_images_sha256(read: Callable[[Tensor], tuple[Tensor, Tensor]], length: int, spec: ImageSpec) -> str:
    """sha256 of the `length` training images and labels of a run, at the positions 0 to `length` - 1 of `read`.

    Of more than 256 MiB of images, 1,000 are hashed, among them the first and the last one. The number of images
    is hashed too.
    """
    all_count = length * spec.pixels <= _ALL_BYTES or length <= _SOME_IMAGES
    positions = torch.arange(length if all_count else _SOME_IMAGES)
    if not all_count:
        positions = positions * (length - 1) // (_SOME_IMAGES - 1)
    batch_size = min(_BATCH_IMAGES, max(1, _BATCH_BYTES // spec.pixels))
    return images_sha256(read, positions, batch_size, header=f"{spec}, {length}")
