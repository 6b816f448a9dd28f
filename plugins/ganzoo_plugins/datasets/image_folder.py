"""A dataset from a folder of image files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import numpy as np
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._listing import Listing, list_pictures, some_of
from ganzoo_plugins.datasets._memory import Split
from ganzoo_plugins.datasets._notes import note_once
from ganzoo_plugins.datasets._picture_cache import PictureCache
from ganzoo_plugins.datasets._pictures import careful, decode

#: a set whose highest and lowest values differ by no more uses a sixteenth of its range
_FEW_LEVELS = 16


class ImageFolder(ganzoo.Dataset):
    """A folder of your own pictures, with or without a sub-folder for each class.

    All files with the suffix of a picture are read, at any depth, except hidden ones and those in hidden folders. If
    all are in sub-folders, the direct sub-folders are the classes, in natural order (2 before 10); if none is, there is
    one class. Pictures are turned as their EXIF data says, transparency shows a white ground, 16-bit grey is scaled to
    8 bits, of an animation the first frame counts. Which are test pictures depends on their paths below the folder
    alone, so that pictures added later move no others.

    If there are a folder `train` and a folder `test` (or `val`, `validation`), they are the splits, and the classes
    are below them. A class is one that has training pictures; test pictures of others are left out.

    Pictures are decoded when they are first used, or have changed (sizes, times, sha256), into one file below
    `ganzoo.cache_dir()`; later runs map it into memory, read what they need of it, and check its sha256.
    """

    def __init__(
        self,
        *,
        split: Split = "train",
        path: Annotated[str, click.Path(), "the folder"] = "",
        size: Annotated[int, click.IntRange(min=0), "height and width; 0 if all have one size, to keep it"] = 64,
        channels: Annotated[Literal[1, 3], "1 for grey, 3 for colour"] = 3,
        crop: Annotated[bool, "cut out the central square before resizing, rather than distort"] = True,
        skip_broken: Annotated[bool, "leave out pictures that cannot be read, rather than stop"] = False,
        test_share: Annotated[float, click.FloatRange(0, 0.5), "share of the pictures kept for the test split"] = 0.1,
    ) -> None:
        if not path:
            raise ganzoo.UsageError("image-folder needs a folder of pictures: write image-folder:path=DIR.")
        self._root = Path(os.path.expanduser(path)).absolute()
        listing = list_pictures(self._root)
        names = listing.names
        self._decoding: dict[str, Any] = {"channels": channels, "size": size, "crop": crop}
        self._cache = PictureCache(self._root, names, self._decoding, retry=not skip_broken)
        broken = self._cache.broken
        if broken:
            if len(broken) == len(names) or not skip_broken:
                raise _complaint(self._root, names, broken)
            note_once(f"{_account(self._root, names, broken)}: left out.")
        rows = [row for row, name in enumerate(names) if name not in broken]
        parts: dict[str, list[int]] = {"train": [], "test": []}
        for row in rows:
            parts["test" if listing.is_test(names[row], test_share) else "train"].append(row)
        labels = torch.tensor(listing.labels)
        classes, self.class_names = _classes(labels[parts["train"]], listing.classes)
        chosen = [row for row in parts[split] if int(labels[row]) in classes]
        if not chosen:
            raise ganzoo.GanzooError(_empty(self._root, split, test_share, len(rows), listing))
        for note in listing.notes:
            note_once(note)
        if len(chosen) < len(parts[split]):
            strange = {(*listing.classes, "none")[listing.labels[row]] for row in set(parts[split]) - set(chosen)}
            note_once(
                f"{len(parts[split]) - len(chosen)} test pictures of {self._root} are left out, because no training "
                f"picture has their class: {some_of(sorted(strange))}."
            )
        self.test_images = sum(int(labels[row]) in classes for row in parts["test"])
        self.spec = ganzoo.ImageSpec(*self._cache.shape, classes=max(1, len(classes)))
        self._names = [names[row] for row in chosen]
        self._rows = np.array([self._cache.row_of(name) for name in self._names])
        self._labels = torch.tensor([classes[int(label)] for label in labels[chosen]])
        _note_levels(self._root, *self._cache.levels(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Copied from the cache."""
        return torch.from_numpy(self._cache.read(self._rows[indices.numpy()])), self._labels[indices]

    def verify(self) -> str:
        """Decode every picture again and compare."""
        read = super().verify()
        with careful():
            for name, row in zip(self._names, self._rows, strict=True):
                image = decode(self._root / name, **self._decoding)
                if isinstance(image, str) or not np.array_equal(image.numpy(), self._cache.read(np.array([row]))[0]):
                    raise ganzoo.GanzooError(
                        f"{self._root / name} is not what {self._cache.folder} holds of it: delete that folder, and it "
                        "is made anew."
                    )
        return f"{read}, each decoded anew and compared"


def _classes(labels: Tensor, names: Sequence[str]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Place among all classes -> label, and names, of the classes that training pictures with these `labels` have."""
    if not names:
        return {0: 0}, ()
    present = sorted(set(labels.tolist()))
    return {old: new for new, old in enumerate(present)}, tuple(names[old] for old in present)


def _empty(root: Path, split: str, test_share: float, count: int, listing: Listing) -> str:
    """Why a split has no pictures, and what to do."""
    if listing.test:
        return (
            f"The {split} split of {root} is empty: none of its {count} readable pictures is in the folder of the "
            f"{split} pictures, of a class that is trained on; add pictures, or give the path of one folder."
        )
    return (
        f"The {split} split of {root} is empty, test_share={test_share:g} puts none of its {count} readable pictures "
        "there: add pictures or change test_share."
    )


def _note_levels(root: Path, low: int, high: int) -> None:
    if high - low <= _FEW_LEVELS:
        note_once(
            f"The pictures of {root} use only the values {low}..{high} of 0..255, so they look nearly alike: if they "
            "were saved with fewer bits than their files can hold, such as 12 of 16, scale them to the whole range."
        )


def _account(root: Path, names: Sequence[str], broken: Mapping[str, str]) -> str:
    # names may hold bytes that are no text
    shown = [f"{click.format_filename(name)}: {reason}" for name, reason in list(broken.items())[:3]]
    more = [f"and {len(broken) - 3} more"] if len(broken) > 3 else []
    return f"{len(broken)} of {len(names)} pictures in {root} cannot be read ({'; '.join(shown + more)})"


def _complaint(root: Path, names: Sequence[str], broken: Mapping[str, str]) -> ganzoo.GanzooError:
    way_out = "" if len(broken) == len(names) else ", or leave them out with skip_broken=true"
    return ganzoo.GanzooError(f"{_account(root, names, broken)}: mend or delete them{way_out}.")
