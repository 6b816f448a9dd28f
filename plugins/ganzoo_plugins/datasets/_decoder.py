"""Pictures of a large dataset, decoded when they are read, on all cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._pictures import decode

#: pictures of a thread at least: to hand over fewer takes longer than to decode them
_FEWEST = 8
#: more threads wait for each other's Python code
_MOST_THREADS = 16


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Decoder:
    """Decodes pictures to (C, H, W) of `shape`.

    Decoders of pictures leave the interpreter to others while they work, so threads help with all but tiny pictures.
    """

    def __init__(self, shape: tuple[int, int, int], channels: int, size: int, crop: bool) -> None:
        self._shape = shape
        self._channels, self._size, self._crop = channels, size, crop
        self._threads = min(cores(), _MOST_THREADS)
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, pictures: Sequence[tuple[str, bytes]]) -> Tensor:
        """Images (n, C, H, W) uint8 of pictures given as name and content. Raises GanzooError with the name."""
        images = torch.empty((len(pictures), *self._shape), dtype=torch.uint8)
        parts = min(self._threads, len(pictures) // _FEWEST)
        if parts < 2:
            self._decode(pictures, images, range(len(pictures)))
            return images
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="ganzoo-decode")
        shares = [range(part, len(pictures), parts) for part in range(parts)]
        for done in [self._pool.submit(self._decode, pictures, images, share) for share in shares]:
            done.result()
        return images

    def _decode(self, pictures: Sequence[tuple[str, bytes]], images: Tensor, places: range) -> None:
        for place in places:
            name, content = pictures[place]
            # the name is only looked at for its suffix
            image = decode(Path(name), self._channels, self._size, self._crop, content)
            if isinstance(image, str):
                raise ganzoo.GanzooError(f"{name} cannot be read as a picture ({image}): mend it or take it out.")
            if image.shape != self._shape:
                wanted, found = ("x".join(map(str, shape)) for shape in (self._shape, image.shape))
                raise ganzoo.GanzooError(f"{name} is a picture of {found}, the others are of {wanted}: take it out.")
            images[place] = image
