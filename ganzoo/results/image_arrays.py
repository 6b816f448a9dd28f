"""Images in NumPy files and arrays: what is scored in the place of a run's fakes.

`.npy`: one array of images, uint8 (N, C, H, W), (N, H, W, C) or (N, H, W). The labels that `ganzoo sample` writes
beside it, `x.labels.csv`, are read too.
`.npz`: an array named `images`, or the only array; labels (N,) are in the array `labels`.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.paths import is_file
from ganzoo.results.classes import labels_file

SUFFIXES = (".npy", ".npz")
#: numbers of channels that an image may have
_CHANNELS = (1, 3)
#: values that are looked at to find the range of an array of floats
_LOOKED_AT = 1 << 22
#: the most labels of different classes
_MOST_CLASSES = 1 << 16


@dataclasses.dataclass(frozen=True)
class ImageArray:
    """Images of a file or of an array in memory, and their labels."""

    #: for messages
    name: str
    #: shape of the images; `classes` is 1 without labels, else the largest label plus 1
    spec: ImageSpec
    #: "NCHW", "NHWC" or "NHW"
    layout: str
    #: as stored: uint8, of the layout; it may be mapped from a file
    stored: np.ndarray
    #: int64 (N,), or None
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.stored)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (n, C, H, W) and labels (n,) at `indices` (n,). Labels are 0 where there are none."""
        images = torch.from_numpy(np.ascontiguousarray(self.stored[indices.numpy()]))
        if self.layout == "NHW":
            images = images.unsqueeze(1)
        elif self.layout == "NHWC":
            images = images.permute(0, 3, 1, 2).contiguous()
        return images, torch.zeros_like(indices) if self.labels is None else self.labels[indices]


def open_images(path: Path) -> ImageArray:
    """The images of a `.npy` or `.npz` file.

    Raises UsageError where there is no such file, and GanzooError for one that is damaged or does not hold images.
    """
    if not is_file(path):
        raise UsageError(f"There is no file {path}.")
    if path.suffix == ".npz":
        arrays = _read_archive(path)
        key = _images_key(path, arrays)
        return images_of(arrays[key], f"{path} ({key})", arrays.get("labels"))
    stored = _map_file(path)
    beside = labels_file(path)
    return images_of(stored, str(path), _read_labels(beside) if beside.is_file() else None)


def images_of(array: Any, name: str = "the array", labels: Any = None) -> ImageArray:
    """Images of a NumPy array or a tensor. `name` is what messages call it.

    Raises GanzooError for anything but uint8 images (N, C, H, W), (N, H, W, C) or (N, H, W), and for labels that are
    not a whole number for each image.
    """
    stored = array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
    if stored.ndim not in (3, 4):
        raise GanzooError(
            f"{name} is an array of shape {stored.shape}: images are (N, C, H, W), (N, H, W, C) or (N, H, W)."
        )
    layout = _layout(stored.shape, name)
    if not stored.size:
        raise GanzooError(f"{name} holds no images: it is an array of shape {stored.shape}.")
    if stored.dtype != np.uint8:
        raise GanzooError(_other_numbers(stored, name))
    channels, height, width = {
        "NHW": lambda count, *sides: (1, *sides),
        "NCHW": lambda count, *sides: sides,
        "NHWC": lambda count, height, width, channels: (channels, height, width),
    }[layout](*map(int, stored.shape))
    found = None if labels is None else _labels(labels, len(stored), name)
    classes = 1 if found is None else int(found.max()) + 1
    return ImageArray(name, ImageSpec(channels, height, width, classes), layout, stored, found)


# --- what an array holds ----------------------------------------------------------------------------------------------


def _layout(shape: tuple[int, ...], name: str) -> str:
    """The order of the axes. Raises GanzooError where it is not clear."""
    if len(shape) == 3:
        return "NHW"
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first != last:
        return "NCHW" if first else "NHWC"
    if first:
        raise GanzooError(
            f"{name} is an array of shape {shape}, and either axis may be that of the channels: images that are so "
            "small cannot be scored."
        )
    raise GanzooError(
        f"{name} is an array of shape {shape}: images have 1 or 3 channels, and neither axis 1 nor axis 3 has so many."
    )


def _other_numbers(stored: np.ndarray, name: str) -> str:
    """Why an array that is not uint8 is refused, and how to convert it."""
    needed = "scores need uint8 images from 0 to 255"
    if stored.dtype == np.bool_:
        return f"{name} holds truth values, and {needed}: save images.astype('uint8') * 255."
    if stored.dtype.kind in "iu":
        low, high = int(stored.min()), int(stored.max())
        advice = "save images.astype('uint8')" if low >= 0 and high <= 255 else "scale them to this range"
        return f"{name} holds {stored.dtype} numbers from {low} to {high}, and {needed}: {advice}."
    if stored.dtype.kind != "f":
        return f"{name} holds {stored.dtype}, and {needed}."
    images = max(1, _LOOKED_AT // max(1, math.prod(stored.shape[1:])))
    bad = sum(int((~np.isfinite(part)).reshape(len(part), -1).any(1).sum()) for part in _parts(stored, images))
    if bad:
        return f"{bad:,} of {len(stored):,} images of {name} hold NaN or infinity: check the generator that made them."
    darkest = min(float(part.min()) for part in _parts(stored, images))
    brightest = max(float(part.max()) for part in _parts(stored, images))
    found = f"{name} holds {stored.dtype} numbers from {darkest:.4g} to {brightest:.4g}, and {needed}"
    if darkest >= -0.1 and brightest <= 1.1:
        return f"{found}: if 1 is white, save (images * 255).round().clip(0, 255).astype('uint8')."
    if darkest >= -1.1 and brightest <= 1.1:
        return f"{found}: if -1 is black, save ((images + 1) * 127.5).round().clip(0, 255).astype('uint8')."
    if darkest >= -1 and brightest <= 256:
        return f"{found}: if they are such numbers, save images.round().clip(0, 255).astype('uint8')."
    return f"{found}: scale them to this range, round them, and save them as uint8."


def _parts(stored: np.ndarray, size: int) -> list[np.ndarray]:
    return [stored[start : start + size] for start in range(0, len(stored), size)]


def _labels(labels: Any, count: int, name: str) -> Tensor:
    """Labels (N,) int64. Raises GanzooError if they are not one whole number from 0 for each image."""
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.dtype.kind not in "iu" or array.shape not in ((count,), (count, 1)):
        raise GanzooError(
            f"The labels of {name} are {array.dtype} of shape {array.shape}, not a whole number for each of {count} "
            "images: save one for each image, or none."
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= _MOST_CLASSES:
        raise GanzooError(f"The labels of {name} are from {low} to {high}: they number the classes, from 0.")
    return torch.from_numpy(array.astype(np.int64)).flatten()


# --- files ------------------------------------------------------------------------------------------------------------


def _map_file(path: Path) -> np.ndarray:
    """The array of a `.npy` file, mapped into memory. Objects are never unpickled."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        size = path.stat().st_size
    except Exception as error:  # for a file that is not of NumPy, it may raise anything
        raise _unreadable(path, error) from None
    if not isinstance(stored, np.memmap):
        stored.close()
        raise GanzooError(f"{path} is an archive of arrays: name it with the suffix .npz.")
    if size != stored.offset + stored.nbytes:
        raise GanzooError(f"{path} is damaged: it has {size} bytes, and its header says {stored.shape}.")
    return stored


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file by name. Objects are never unpickled, and no more is read than the file holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                member.filename.removesuffix(".npy"): _member(archive, member)
                for member in archive.infolist()
                if member.filename.endswith(".npy")
            }
    except Exception as error:
        raise _unreadable(path, error) from None


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, _, kind = read_header(file)
        if kind.hasobject:
            raise ValueError(f"{member.filename} holds objects")
        if file.tell() + math.prod(shape) * kind.itemsize != member.file_size:  # before that much memory is allocated
            raise ValueError(f"{member.filename} has not the size that its header says")
    with archive.open(member) as file:
        array: np.ndarray = np.load(file, allow_pickle=False)
    return array


def _images_key(path: Path, arrays: dict[str, np.ndarray]) -> str:
    """The name of the images in an archive: `images`, or the only array beside `labels`."""
    others = [name for name in arrays if name != "labels"]
    if "images" in arrays:
        return "images"
    if len(others) == 1:
        return others[0]
    held = ", ".join(others[:6]) or "none"
    raise GanzooError(
        f"{path} holds {len(others)} arrays ({held}), none of them named images: save it with "
        "numpy.savez(FILE, images=..., labels=...)."
    )


def _unreadable(path: Path, error: Exception) -> GanzooError:
    words = getattr(error, "strerror", None) or (str(error) or repr(error)).splitlines()[0].rstrip(".")
    if "allow_pickle" in words:  # NumPy goes on to advise that the safety be switched off
        words = "it holds objects"
    kind = "numpy.savez" if path.suffix == ".npz" else "numpy.save"
    return GanzooError(f"{path} cannot be read as a NumPy file ({words}): save an array of images with {kind}.")


def _read_labels(path: Path) -> np.ndarray:
    """The column `label` of a file of labels, one line for each image in order."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return np.array([int(row["label"]) for row in csv.DictReader(file)], np.int64)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise GanzooError(
            f"{path} cannot be read as the labels of the images beside it ({error}): mend it, or move it away."
        ) from None
