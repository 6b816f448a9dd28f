"""A dataset from a folder of image files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import numpy as np
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._memory import Split
from ganzoo_plugins.datasets._notes import note_once
from ganzoo_plugins.datasets._picture_cache import PictureCache
from ganzoo_plugins.datasets._pictures import SUFFIXES, careful, decode, needed_for

#: folders of these names, in any case, are the splits if both are there; of several test folders the first one counts
_TRAIN, _TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
#: files that are no pictures and that a file manager leaves behind
_CLUTTER = ("thumbs.db", "desktop.ini")
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
            raise ganzoo.UsageError("image-folder needs to be told its folder: write image-folder:path=DIR.")
        self._root = Path(os.path.expanduser(path)).absolute()
        listing = _listing(self._root)
        names = listing.names
        self._decoding: dict[str, Any] = {"channels": channels, "size": size, "crop": crop}
        self._cache = PictureCache(self._root, names, self._decoding, retry=not skip_broken)
        broken = self._cache.broken
        if broken:
            if len(broken) == len(names) or not skip_broken:
                raise _complaint(self._root, names, broken)
            click.echo(f"{_account(self._root, names, broken)}: left out.", err=True)
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
                f"picture has their class: {_some(sorted(strange))}."
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


@dataclasses.dataclass(frozen=True)
class _Listing:
    """The pictures of a folder."""

    #: paths below the folder, sorted
    names: list[str]
    #: of each picture, its place in `classes`; -1 for a test picture that has none
    labels: list[int]
    #: names of the classes; empty if the pictures are loose
    classes: tuple[str, ...]
    #: the folder of the test pictures, if there is one
    test: str
    #: what a user should know of the folder
    notes: list[str]

    def is_test(self, name: str, test_share: float) -> bool:
        """Whether a picture belongs to the test split."""
        return name.partition("/")[0] == self.test if self.test else _is_test(name, test_share)


def _listing(root: Path) -> _Listing:
    """The pictures of `root`. Raises GanzooError where there are none, or it is not clear what their classes are."""
    ignored: Counter[str] = Counter()
    try:
        names = sorted(path.relative_to(root).as_posix() for path in _pictures(root, set(), ignored))
    except OSError as error:
        raise ganzoo.GanzooError(
            f"{error.filename or root} cannot be listed ({error.strerror}): give as path= a folder of pictures."
        ) from None
    if not names:
        others = f"; it holds {_account_of(ignored)}" if ignored else ""
        raise ganzoo.GanzooError(
            f"{root} has no pictures: image-folder reads files in {' '.join(sorted(SUFFIXES))}{others}."
        )
    notes = []
    if ignored:
        count = sum(ignored.values())
        notes.append(f"{count} of {count + len(names)} files in {root} are not read: {_account_of(ignored)}.")
    train, test, more = _splits(root, names)
    if train:
        names = [name for name in names if name.partition("/")[0] in (train, test)]
    # the part of a path that may begin with a class
    inner = {name: name.partition("/")[2] if train else name for name in names}
    if (
        test
        and not any("/" in inner[name] for name in names if name.startswith(f"{test}/"))
        and any("/" in inner[name] for name in names if name.startswith(f"{train}/"))
    ):
        more.append(
            f"{root / test} has no folders of classes, as {train} has, so it is left out: the test pictures are those "
            f"that test_share takes from {train}."
        )
        names = [name for name in names if name.startswith(f"{train}/")]
        test = ""
    trained = [inner[name] for name in names if not train or name.startswith(f"{train}/")]
    classes = _first_folders(trained)
    loose = [name for name in trained if "/" not in name]
    if loose and classes:
        raise ganzoo.GanzooError(
            f"{root / train} has pictures both in folders ({classes[0]}) and loose ({loose[0]}): move the loose ones "
            "into a folder of their own, or give the path of one folder."
        )
    if classes and train:
        classes = _first_folders(inner.values())
    labels = {name: label for label, name in enumerate(classes)}
    none = -1 if classes else 0
    found = [labels[inner[name].partition("/")[0]] if classes and "/" in inner[name] else none for name in names]
    return _Listing(names, found, tuple(classes), test, [*notes, *more])


def _first_folders(names: Iterable[str]) -> list[str]:
    """The first folders of these paths, in the order of the classes."""
    return sorted({name.partition("/")[0] for name in names if "/" in name}, key=_natural)


def _natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names with numbers by the numbers: 2 before 10."""
    return [int(word) if index % 2 else word for index, word in enumerate(re.split("([0-9]+)", name))], name


def _splits(root: Path, names: Sequence[str]) -> tuple[str, str, list[str]]:
    """The folders of the training and the test pictures, empty where these are not split by folders; and notes."""
    top = sorted({name.partition("/")[0] for name in names})
    train = [name for word in _TRAIN for name in top if name.lower() == word]
    test = [name for word in _TEST for name in top if name.lower() == word]
    others = [name for name in top if name not in (*train[:1], *test[:1])]
    if train and test:
        note = f"{root} is split by its folders: {train[0]} is trained on, the test pictures are those of {test[0]}"
        return train[0], test[0], [f"{note}; not used: {_some(others)}." if others else f"{note}."]
    if train and not others:
        return train[0], "", []
    if train:
        return (
            "",
            "",
            [
                f"{root} has a folder {train[0]}, but none of test pictures, so {train[0]} is a class like "
                f"{_some(others)}: if it holds the training pictures, give path={root / train[0]}."
            ],
        )
    second = sorted({tuple(name.split("/")[:2]) for name in names if name.count("/") > 1})
    for folder in sorted({pair[0] for pair in second}):
        inside = {pair[1].lower() for pair in second if pair[0] == folder}
        if inside & set(_TRAIN) and inside & set(_TEST):
            return (
                "",
                "",
                [
                    f"{root / folder} has folders of training and of test pictures, but {folder} is taken as one class "
                    f"with all of them: if these are the splits, give path={root / folder}."
                ],
            )
    return "", "", []


def _classes(labels: Tensor, names: Sequence[str]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Place among all classes -> label, and names, of the classes that training pictures with these `labels` have."""
    if not names:
        return {0: 0}, ()
    present = sorted(set(labels.tolist()))
    return {old: new for new, old in enumerate(present)}, tuple(names[old] for old in present)


def _empty(root: Path, split: str, test_share: float, count: int, listing: _Listing) -> str:
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


def _pictures(folder: Path, seen: set[str], ignored: Counter[str]) -> Iterator[Path]:
    """Pictures at any depth, through links, but no folder twice: links may run in circles.

    Other files that are not hidden are counted in `ignored`, by suffix.
    """
    place = os.path.realpath(folder)
    if place in seen:
        return
    seen.add(place)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _pictures(Path(entry.path), seen, ignored)
                continue
            suffix = Path(entry.name).suffix.lower()
            # a link to nowhere is a picture that cannot be read, and must not go unnoticed
            if suffix in SUFFIXES and not needed_for(suffix) and (entry.is_file() or entry.is_symlink()):
                yield Path(entry.path)
            elif entry.name.lower() not in _CLUTTER:
                ignored[suffix] += 1


def _account_of(ignored: Counter[str]) -> str:
    """How many files there are of each suffix, and what it takes to read them."""
    words = []
    for suffix, count in ignored.most_common():
        needed = needed_for(suffix) if suffix in SUFFIXES else ""
        name = click.format_filename(suffix) if suffix else "without a suffix"
        words.append(f"{count} {name}{f' ({needed} reads them)' if needed else ''}")
    return _some(words)


def _some(words: Sequence[str], most: int = 5) -> str:
    """A list of words that is not too long."""
    shown = [click.format_filename(word) for word in words[:most]]
    return ", ".join([*shown, f"and {len(words) - most} more"] if len(words) > most else shown)


def _note_levels(root: Path, low: int, high: int) -> None:
    if high - low <= _FEW_LEVELS:
        note_once(
            f"The pictures of {root} use only the values {low}..{high} of 0..255, so they look nearly alike: if they "
            "were saved with fewer bits than their files can hold, such as 12 of 16, scale them to the whole range."
        )


def _is_test(name: str, test_share: float) -> bool:
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:8], "big") < test_share * 2**64


def _account(root: Path, names: Sequence[str], broken: Mapping[str, str]) -> str:
    # names may hold bytes that are no text
    shown = [f"{click.format_filename(name)}: {reason}" for name, reason in list(broken.items())[:3]]
    more = [f"and {len(broken) - 3} more"] if len(broken) > 3 else []
    return f"{len(broken)} of {len(names)} pictures in {root} cannot be read ({'; '.join(shown + more)})"


def _complaint(root: Path, names: Sequence[str], broken: Mapping[str, str]) -> ganzoo.GanzooError:
    way_out = "" if len(broken) == len(names) else ", or leave them out with skip_broken=true"
    return ganzoo.GanzooError(f"{_account(root, names, broken)}: mend or delete them{way_out}.")
