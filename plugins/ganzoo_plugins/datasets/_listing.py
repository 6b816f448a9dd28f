"""The pictures of a folder: their names, classes and splits, and which files are no pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

import ganzoo
from ganzoo_plugins.datasets._pictures import SUFFIXES, needed_for

#: folders of these names, in any case, are the splits if both are there; of several test folders the first one counts
TRAIN_NAMES, TEST_NAMES = ("train", "training"), ("test", "testing", "val", "valid", "validation")
#: files that are no pictures and that a file manager leaves behind
_CLUTTER = ("thumbs.db", "desktop.ini")


@dataclasses.dataclass(frozen=True)
class Listing:
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
        return name.partition("/")[0] == self.test if self.test else is_test_picture(name, test_share)


def list_pictures(root: Path) -> Listing:
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
    return Listing(names, found, tuple(classes), test, [*notes, *more])


def _first_folders(names: Iterable[str]) -> list[str]:
    """The first folders of these paths, in the order of the classes."""
    return sorted({name.partition("/")[0] for name in names if "/" in name}, key=natural)


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names with numbers by the numbers: 2 before 10."""
    return [int(word) if index % 2 else word for index, word in enumerate(re.split("([0-9]+)", name))], name


def _splits(root: Path, names: Sequence[str]) -> tuple[str, str, list[str]]:
    """The folders of the training and the test pictures, empty where these are not split by folders; and notes."""
    top = sorted({name.partition("/")[0] for name in names})
    train = [name for word in TRAIN_NAMES for name in top if name.lower() == word]
    test = [name for word in TEST_NAMES for name in top if name.lower() == word]
    others = [name for name in top if name not in (*train[:1], *test[:1])]
    if train and test:
        note = f"{root} is split by its folders: {train[0]} is trained on, the test pictures are those of {test[0]}"
        return train[0], test[0], [f"{note}; not used: {some_of(others)}." if others else f"{note}."]
    if train and not others:
        return train[0], "", []
    if train:
        return (
            "",
            "",
            [
                f"{root} has a folder {train[0]}, but none of test pictures, so {train[0]} is a class like "
                f"{some_of(others)}: if it holds the training pictures, give path={root / train[0]}."
            ],
        )
    second = sorted({tuple(name.split("/")[:2]) for name in names if name.count("/") > 1})
    for folder in sorted({pair[0] for pair in second}):
        inside = {pair[1].lower() for pair in second if pair[0] == folder}
        if inside & set(TRAIN_NAMES) and inside & set(TEST_NAMES):
            return (
                "",
                "",
                [
                    f"{root / folder} has folders of training and of test pictures, but {folder} is taken as one class "
                    f"with all of them: if these are the splits, give path={root / folder}."
                ],
            )
    return "", "", []


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
    return some_of(words)


def some_of(words: Sequence[str], most: int = 5) -> str:
    """A list of words that is not too long."""
    shown = [click.format_filename(word) for word in words[:most]]
    return ", ".join([*shown, f"and {len(words) - most} more"] if len(words) > most else shown)


def is_test_picture(name: str, test_share: float) -> bool:
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:8], "big") < test_share * 2**64
