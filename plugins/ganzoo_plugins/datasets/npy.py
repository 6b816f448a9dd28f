"""A dataset from a NumPy file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import click
import numpy as np
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._arrays import write_arrays
from ganzoo_plugins.datasets._classes import NAMES_FILE, read_names, write_names_of
from ganzoo_plugins.datasets._memory import Size, Split
from ganzoo_plugins.datasets._notes import note_once

_MOST_CLASSES = 1 << 16
#: so many images are looked at to see which values they use; no more than so many values are a sixteenth of the range
_LOOKED_AT, _FEW_LEVELS = 16, 16


class Npy(ganzoo.Dataset):
    """Your own NumPy file (.npy) of images, which may be larger than memory.

    uint8 numbers (N, H, W), grey, or (N, H, W, C) with 1 or 3 channels; with `layout=NCHW` the channels stand before
    the sides. Labels are whole numbers of at least 0, one an image, in a file of their own; without them there is one
    class. The classes are the numbers that training images have, and are called by them: of labels 1 to 4 there are
    four. Test images with another number are left out.

    A folder is read as `ganzoo data convert --to npy` writes it: train.npy, test.npy, train-labels.npy,
    test-labels.npy and classnames.txt, the names of the classes, one a line.

    The test images are those of `test`, or every tenth one of `path`: where images that are neighbours in the file are
    alike, such as frames of a film, name a file for them.

    No more of the file is read than the images that are asked for. Its header must account for every byte of it, and
    pickled objects are never loaded.
    """

    def __init__(
        self,
        *,
        split: Split = "train",
        path: Annotated[str, click.Path(), "the images, or a folder of files with the usual names"] = "",
        labels: Annotated[str, click.Path(), "the classes of the images, a .npy file of N whole numbers"] = "",
        test: Annotated[str, click.Path(), "the test images, if they have a file of their own"] = "",
        test_labels: Annotated[str, click.Path(), "the classes of the test images"] = "",
        test_every: Annotated[
            int, click.IntRange(min=0), "without `test`: every n-th image is a test image; 0: none is"
        ] = 10,
        layout: Annotated[Literal["NHWC", "NCHW"], "order of the axes of an array of four dimensions"] = "NHWC",
        names: Annotated[str, click.Path(), "the names of the classes 0, 1, 2..., a text file of one a line"] = "",
        size: Size = 0,
    ) -> None:
        if not path:
            raise ganzoo.UsageError("npy needs a file of images: write npy:path=FILE.npy.")
        if Path(path).expanduser().is_dir():
            if labels or test or test_labels or names:
                raise ganzoo.UsageError(f"npy: {path} is a folder, whose files have the usual names: give path= alone.")
            path, labels, test, test_labels, names = _files_of(Path(path).expanduser())
        if bool(test_labels) != bool(test and labels):
            raise ganzoo.UsageError("npy: test images have labels where the others have, so name both files or none.")
        if test_every == 1 and not test:
            raise ganzoo.UsageError(
                "npy: with test_every=1 every image is a test image; 10 keeps one in ten for tests."
            )
        images = _Images(path, layout)
        held_out = _Images(test, layout) if test else None
        if held_out and held_out.path.samefile(images.path):
            raise ganzoo.UsageError(
                "npy: path and test are the same file, and test images are to be others: leave test out, and every "
                "tenth image is one, or name another file."
            )
        if held_out and held_out.shape != images.shape:
            raise ganzoo.GanzooError(f"{test} has images of {held_out.shape}, {path} of {images.shape}.")
        known = {"train": _labels(labels, images)} if labels else {}
        known |= {"test": _labels(test_labels, held_out)} if held_out and test_labels else {}
        self._labels: Tensor | None = None
        self._file = held_out if held_out and split == "test" else images
        self._split, self._every = split, 0 if test else test_every
        kept = self._file.count // self._every if self._every else 0
        self._length = kept if split == "test" and not test else self._file.count - kept
        #: rows of the file, where labels leave some out
        self._chosen: Tensor | None = None
        if not self._length:
            raise ganzoo.GanzooError(
                f"The {split} split of {path} is empty: test_every={test_every} puts none of {self._file.count} images "
                f"there; name a file of test images with test=, or change test_every."
            )
        channels, *sides = self._file.shape
        height, width = (size, size) if size else sides
        if names and not known:
            raise ganzoo.UsageError("npy: names are those of classes: give labels= too.")
        classes = self._take_labels(known, path, names) if known else 1
        self.spec = ganzoo.ImageSpec(channels, height, width, classes)
        self._note_levels(path)

    def __len__(self) -> int:
        return self._length

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Read from the file."""
        rows = self._rows(indices) if self._chosen is None else self._chosen[indices]
        labels = torch.zeros_like(indices) if self._labels is None else self._labels[indices]
        return ganzoo.resize(self._file.read(rows), (self.spec.height, self.spec.width)), labels

    @classmethod
    def write(cls, folder: Path, splits: Mapping[str, ganzoo.Dataset], done: Callable[[int], None]) -> dict[str, Any]:
        """SPLIT.npy and SPLIT-labels.npy, with classnames.txt where there are classes."""
        for split, dataset in splits.items():
            write_arrays(folder, split, dataset, done)
        if splits["train"].spec.classes > 1:
            write_names_of(folder, splits["train"])
        return {"path": Path(), **({} if "test" in splits else {"test_every": 0})}

    def _take_labels(self, known: Mapping[str, Tensor], path: str, names: str) -> int:
        """Number the classes of the training images from 0, and leave out test images of others; how many there are.

        known: the labels of the whole file of each split, or of the one file of both.
        names: a file of names; then these are the classes, and no image is left out.
        """
        if names:
            self.class_names = read_names(Path(names).expanduser())
            found = known.get(self._split, known["train"])[self._rows(torch.arange(self._length))]
            if int(found.max()) >= len(self.class_names):
                raise ganzoo.GanzooError(
                    f"The labels of {path} go up to {int(found.max())}, and {names} has names for the classes "
                    f"0..{len(self.class_names) - 1}: name all of them."
                )
            self._labels = found
            return len(self.class_names)
        train = known["train"]
        if self._every:
            train = train[torch.arange(1, len(train) + 1) % self._every != 0]
        values = torch.from_numpy(np.unique(train.numpy()))
        if len(values) > _MOST_CLASSES:
            raise ganzoo.GanzooError(
                f"The labels of {path} are {len(values)} different numbers, more than {_MOST_CLASSES}: give the number "
                "of each image's class."
            )
        rows = self._rows(torch.arange(self._length))
        found = known.get(self._split, known["train"])[rows]
        labels = torch.searchsorted(values, found).clamp(max=len(values) - 1)
        same = values[labels] == found
        if not same.all():
            strange = np.unique(found[~same].numpy()).tolist()
            shown = ", ".join(map(str, strange[:5])) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
            note_once(
                f"{int((~same).sum())} test images of {path} are left out, because no training image has their label: "
                f"{shown}."
            )
            self._chosen, labels = rows[same], labels[same]
            self._length = len(labels)
            if not self._length:
                raise ganzoo.GanzooError(
                    f"The {self._split} split of {path} is empty: no training image has a label that a test image has."
                )
        self._labels = labels
        if values.tolist() != list(range(len(values))):
            self.class_names = tuple(str(value) for value in values.tolist())
        return len(values)

    def _note_levels(self, path: str) -> None:
        """Name a set that uses a sixteenth of the values it may have, such as 0 and 1."""
        indices = torch.linspace(0, len(self) - 1, min(len(self), _LOOKED_AT), dtype=torch.float64).long()
        images = self._file.read(self._rows(indices) if self._chosen is None else self._chosen[indices])
        low, high = int(images.min()), int(images.max())
        if high - low <= _FEW_LEVELS:
            note_once(
                f"{len(indices)} images of {path} use only the values {low}..{high} of 0..255, so they look nearly "
                "alike: if they were saved with fewer bits, scale them to the whole range."
            )

    def _rows(self, indices: Tensor) -> Tensor:
        """The rows of the file for indices of the split: the last of every `test_every` images is a test image."""
        if not self._every:
            return indices
        if self._split == "test":
            return indices * self._every + self._every - 1
        return indices + indices // (self._every - 1)


def _files_of(folder: Path) -> tuple[str, ...]:
    """The images, labels, test images, their labels and the names of classes in a folder; empty where there is none."""
    names = ("train.npy", "train-labels.npy", "test.npy", "test-labels.npy", NAMES_FILE)
    if not (folder / names[0]).is_file():
        raise ganzoo.GanzooError(f"{folder} has no file train.npy: give the path of a file of images.")
    return tuple(str(folder / name) if (folder / name).is_file() else "" for name in names)


class _Images:
    """The images of a file, read one by one."""

    def __init__(self, path: str, layout: str) -> None:
        self.path, self.layout = Path(path).expanduser(), layout
        mapped = _mapped(self.path)
        if mapped.dtype != np.uint8:
            raise ganzoo.GanzooError(
                f"{path} holds {mapped.dtype}, not uint8: save whole numbers, 0 to 255; of numbers from 0 to 1 that "
                f"is (images * 255).round().astype('uint8')."
            )
        if not mapped.size:
            raise ganzoo.GanzooError(f"{path} holds no images: it is an array of {mapped.shape}.")
        if mapped.ndim not in (3, 4):
            raise ganzoo.GanzooError(f"{path} is an array of {mapped.shape}, not of images (N, H, W) or (N, H, W, C).")
        self.count, self._stored, self._offset = len(mapped), mapped.shape[1:], mapped.offset
        with open(self.path, "rb") as file:
            self._status = _status(file)
        sides = list(mapped.shape[1:])
        channels = 1 if mapped.ndim == 3 else sides.pop(0 if layout == "NCHW" else 2)
        if channels not in (1, 3):
            other = {"NHWC": "NCHW", "NCHW": "NHWC"}[layout]
            raise ganzoo.GanzooError(
                f"{path} is an array of {mapped.shape}, so its images have {channels} channels, not 1 or 3, as "
                f"layout={layout}: drop what is no colour, or write layout={other} if the channels stand elsewhere."
            )
        #: (C, H, W)
        self.shape = (channels, sides[0], sides[1])

    def read(self, rows: Tensor) -> Tensor:
        """Images (n, C, H, W) uint8 of these rows of the file. Raises GanzooError if the file has changed."""
        images = np.empty((len(rows), *self._stored), np.uint8)
        try:
            with open(self.path, "rb") as file:
                same = _status(file) == self._status
                # a mapping would read ahead around every image, which is 70 times as slow in random order, and what is
                # mapped counts as this process's memory
                found = [
                    os.preadv(file.fileno(), [image], self._offset + row * image.nbytes)
                    for row, image in zip(rows.tolist(), images, strict=True)
                ]
        except OSError as error:
            raise ganzoo.GanzooError(f"{self.path} cannot be read any more ({error.strerror}): put it back.") from None
        if not same or sum(found) != images.nbytes:
            raise ganzoo.GanzooError(f"{self.path} has changed while it was read: start again with the file as it is.")
        read = torch.from_numpy(images)
        if read.ndim == 3:
            return read.unsqueeze(1)
        return read if self.layout == "NCHW" else read.permute(0, 3, 1, 2).contiguous()


def _mapped(path: Path) -> np.memmap:
    """A NumPy file, mapped into memory. Raises GanzooError if it is not one, or not a complete one."""
    if not path.is_file():
        raise ganzoo.UsageError(f"There is no file {path}.")
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        size = path.stat().st_size
    except Exception as error:  # of a file that is not one, NumPy may raise anything
        words = getattr(error, "strerror", None) or (str(error) or repr(error)).splitlines()[0].rstrip(".")
        if "allow_pickle" in words:  # numpy goes on to advise that the safety be switched off
            words = "it is no array"
        advice = "give one of numpy.save, of numbers: images of one size, numpy.stack of them"
        raise ganzoo.GanzooError(f"{path} cannot be read as a NumPy file ({words}): {advice}.") from None
    if not isinstance(mapped, np.memmap):
        raise ganzoo.GanzooError(f"{path} is an archive of arrays: save the images alone, with numpy.save.")
    if not mapped.flags.c_contiguous:
        raise ganzoo.GanzooError(f"{path} is in Fortran's order, where no image lies in one piece: save it in C's.")
    if size != mapped.offset + math.prod(mapped.shape) * mapped.itemsize:
        raise ganzoo.GanzooError(f"{path} is damaged: it has {size} bytes, and its header tells of {mapped.shape}.")
    return mapped


def _status(file: BinaryIO) -> tuple[int, ...]:
    """Facts that change when the file changes."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def _labels(path: str, images: _Images) -> Tensor:
    """The labels (N,) int64 of a file of (N,) or (N, 1). Raises GanzooError if there is not one for each image."""
    mapped = _mapped(Path(path).expanduser())
    if mapped.dtype.kind not in "iu" or mapped.shape not in ((images.count,), (images.count, 1)):
        raise ganzoo.GanzooError(
            f"{path} holds {mapped.dtype} {mapped.shape}, not a whole number for each of {images.count} images."
        )
    low, high = int(mapped.min()), int(mapped.max())
    if low < 0 or high >= 1 << 63:
        raise ganzoo.GanzooError(f"{path} holds labels from {low} to {high}: they number the classes, from 0.")
    return torch.from_numpy(mapped.astype(np.int64)).flatten()
