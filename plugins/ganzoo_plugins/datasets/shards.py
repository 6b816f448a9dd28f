"""A dataset from tar files in the WebDataset layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import click
import numpy as np
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._classes import NAMES_FILE, Classes, read_names
from ganzoo_plugins.datasets._decoder import Decoder
from ganzoo_plugins.datasets._memory import Channels, Split
from ganzoo_plugins.datasets._notes import note_once
from ganzoo_plugins.datasets._picture_index import facts_of
from ganzoo_plugins.datasets._picture_rows import is_test
from ganzoo_plugins.datasets._shape import common_shape
from ganzoo_plugins.datasets._shard_files import check_sums, list_shards, write_split, write_sums
from ganzoo_plugins.datasets._shard_index import ShardIndex
from ganzoo_plugins.datasets._split_files import check_complete, split_files
from ganzoo_plugins.datasets._tar import name_before


class Shards(ganzoo.Dataset):
    """Tar files of pictures in the WebDataset layout, which may be larger than memory.

    Files of a tar file whose names are the same up to the first dot belong together: a picture (0001.jpg), and its
    class as a number or a name in 0001.cls, or under "label", "class" or "cls" in 0001.json. Names of numbered classes
    are in `classnames.txt` beside the tar files, one a line; without it the classes are the numbers that training
    pictures have.

    Where some tar files have `train` in their path, and others `test` (or `val`, `validation`), as a folder or as the
    beginning of their name, these are the splits. Otherwise the names of tar file and picture decide which are test
    pictures, so that those added later move no others.

    The first use notes the place of each picture, below `ganzoo.cache_dir()`. Pictures are then read by their number
    and decoded when they are needed, on all cores. A tar file that has changed is noted again.
    """

    def __init__(
        self,
        *,
        split: Split = "train",
        path: Annotated[str, click.Path(), "the folder of the tar files"] = "",
        size: Annotated[int, click.IntRange(min=0), "height and width; 0 if all have one size, to keep it"] = 0,
        channels: Channels = 0,
        crop: Annotated[bool, "cut out the central square before resizing, rather than distort"] = True,
        image: Annotated[str, "which file of several pictures is used, such as jpg or input.png"] = "",
        label: Annotated[str, "what gives the class: a file such as cls, or a key of the .json"] = "",
        test_share: Annotated[float, click.FloatRange(0, 0.5), "share of the pictures kept for the test split"] = 0.1,
    ) -> None:
        if not path:
            raise ganzoo.UsageError("shards needs a folder of tar files: write shards:path=DIR.")
        self._root, names = list_shards(Path(os.path.expanduser(path)).absolute())
        notes = check_complete(self._root, names)
        train, test, more = split_files(self._root, names)
        for note in (*notes, *more):
            note_once(note)
        self._index = ShardIndex(self._root, [*train, *test], image.lstrip(".").lower(), label.lstrip("."))
        rows = self._index.rows
        tests = rows["file"] >= len(train) if test else is_test(rows["draw"], test_share)
        chosen = np.flatnonzero(tests == (split == "test"))
        labels = np.zeros(len(chosen), np.int64)
        classes = 1
        if self._index.labels != "none":
            found = self._classes(rows["label"][~tests])
            labels, known = found.number(rows["label"][chosen])
            chosen, labels, classes = chosen[known], labels[known], max(1, len(found))
            self.class_names = found.names
        if not len(chosen):
            raise ganzoo.GanzooError(
                f"The {split} split of {self._root} is empty: "
                + ("none of its pictures has a class that is trained on." if test else _share(test_share, len(rows)))
            )
        shape = common_shape(rows, channels, size, self._name)
        self.spec = ganzoo.ImageSpec(*shape, classes=classes)
        self.test_images = int(np.count_nonzero(tests))
        self._chosen, self._labels = chosen, torch.from_numpy(labels.astype(np.int64))
        self._decode = Decoder(shape, shape[0], size, crop)

    def __len__(self) -> int:
        return len(self._chosen)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Read from the tar files and decoded."""
        rows = self._index.rows[self._chosen[indices.numpy()]]
        pictures: list[tuple[str, bytes]] = [("", b"")] * len(rows)
        for number in np.unique(rows["file"]).tolist():
            name = self._index.names[number]
            places = np.flatnonzero(rows["file"] == number)
            # in the order of the file, which a disk reads faster
            places = places[np.argsort(rows["offset"][places], kind="stable")]
            self._read_shard(name, rows, places, pictures)
        return self._decode(pictures), self._labels[indices]

    def verify(self) -> str:
        """Also every member of the tar files, and their sha256 where SHA256SUMS names it."""
        read = super().verify()
        self._index.read_again()
        sums = check_sums(self._root, self._index.names)
        return f"{read}, every member of {len(self._index.names)} tar files{sums}"

    @classmethod
    def write(cls, folder: Path, splits: Mapping[str, ganzoo.Dataset], done: Callable[[int], None]) -> dict[str, Any]:
        """Tar files of PNGs, of about 256 MB each, with classnames.txt and SHA256SUMS."""
        sums: dict[str, str] = {}
        for name, dataset in splits.items():
            sums |= write_split(folder, name, dataset, done)
        write_sums(folder, splits["train"], sums)
        return {"path": Path(), **({} if "test" in splits else {"test_share": 0})}

    def _classes(self, train: np.ndarray) -> Classes:
        if self._index.labels == "word":
            return Classes(self._root, train, self._index.words, only_trained=True)
        file = self._root / NAMES_FILE
        return Classes(self._root, train, read_names(file) if file.exists() else ())

    def _read_shard(self, name: str, rows: np.ndarray, places: np.ndarray, pictures: list[tuple[str, bytes]]) -> None:
        """Put the pictures of one tar file at these places. They are copied: a file that shrinks while it is mapped
        would end the process, and a mapping reads ahead around every picture.
        """
        path = self._root / name
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                # the dates at the time of the index; the third changes with permissions too
                same = facts_of(path)[:2] == self._index.facts(name)[:2]
                for place in places.tolist():
                    offset, size = int(rows["offset"][place]), int(rows["size"][place])
                    content = os.pread(descriptor, size, offset)
                    same = same and len(content) == size
                    pictures[place] = f"{path}/{name_before(descriptor, offset)}", content
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ganzoo.GanzooError(f"{path} cannot be read any more ({error.strerror}): put it back.") from None
        if not same:
            raise ganzoo.GanzooError(f"{path} has changed while it was used: start again with the file as it is.")

    def _name(self, row: int) -> str:
        """Tar file and name of a picture, for a message."""
        path = self._root / self._index.names[int(self._index.rows["file"][row])]
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return f"{path}/{name_before(descriptor, int(self._index.rows['offset'][row]))}"
        finally:
            os.close(descriptor)


def _share(test_share: float, count: int) -> str:
    return f"test_share={test_share:g} puts none of its {count} pictures there: add pictures or change test_share."
