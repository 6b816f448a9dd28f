"""Writing images and labels as NumPy files, a part at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import ganzoo

#: images that are read at once
_CHUNK = 256


def write_arrays(folder: Path, split: str, dataset: ganzoo.Dataset, done: Callable[[int], None]) -> None:
    """Write SPLIT.npy, uint8 (N, H, W) or (N, H, W, 3), and SPLIT-labels.npy, int64 (N,), where there are classes."""
    spec = dataset.spec
    if spec.channels not in (1, 3):
        raise ganzoo.UsageError(f"Images of {spec.channels} channels cannot be written as npy: 1 or 3 can.")
    shape = (len(dataset), spec.height, spec.width, *((3,) if spec.channels == 3 else ()))
    labels = np.empty(len(dataset), np.int64)
    with (folder / f"{split}.npy").open("xb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(dataset), _CHUNK):
            images, labels[start : start + _CHUNK] = _part(dataset, start)
            file.write(images)
            done(len(labels[start : start + _CHUNK]))
    if spec.classes > 1:
        np.save(folder / f"{split}-labels.npy", labels, allow_pickle=False)


def _part(dataset: ganzoo.Dataset, start: int) -> tuple[bytes, np.ndarray]:
    """Images as bytes in the order (N, H, W, C), and their labels."""
    images, labels = dataset.read(torch.arange(start, min(start + _CHUNK, len(dataset))))
    return images.permute(0, 2, 3, 1).contiguous().numpy().tobytes(), labels.numpy()
