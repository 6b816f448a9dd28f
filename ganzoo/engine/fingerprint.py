"""A digest of real images: two sets with the same digest hold the same images and labels, in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from torch import Tensor


def images_sha256(
    read: Callable[[Tensor], tuple[Tensor, Tensor]], positions: Tensor, batch_size: int, header: str
) -> str:
    """sha256 of `header`, then of the images and the labels at `positions` (n,), in batches of `batch_size`.

    `read(positions)` returns images uint8 (n, C, H, W) and labels (n,) int64 on the CPU.

    The header and the batch size are part of the result: in each batch, the labels come after the images. A run
    (`Feed.fingerprint`) and the card of a score (`evaluation.features.Reals`) use different ones, as in version 0.1.
    With the same ones, old runs could not be resumed, or old scores could not be compared with new scores.
    """
    sha = hashlib.sha256(header.encode())
    for start in range(0, len(positions), batch_size):
        for tensor in read(positions[start : start + batch_size]):
            sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()
