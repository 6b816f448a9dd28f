"""The classes of a large dataset: which numbers its labels become, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import ganzoo
from ganzoo_plugins.datasets._notes import note_once

#: file with the names of the classes, one a line, in the order of their numbers
NAMES_FILE = "classnames.txt"
_MOST_CLASSES = 1 << 16


def read_names(path: Path) -> tuple[str, ...]:
    """The names in a file of one name a line. Raises GanzooError if it is not one."""
    try:
        names = tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ganzoo.GanzooError(
            f"{path} cannot be read ({reason}): give the names of the classes, one a line."
        ) from None
    if not names or not all(name.strip() for name in names) or len(set(names)) < len(names):
        raise ganzoo.GanzooError(
            f"{path} has an empty line or a name twice: give the names of the classes, one a line."
        )
    return names


def write_names_of(folder: Path, dataset: ganzoo.Dataset) -> Path:
    """Write the names of the classes of a dataset; their numbers where they have no names."""
    names = dataset.class_names or [str(label) for label in range(dataset.spec.classes)]
    path = folder / NAMES_FILE
    if any("".join(name.splitlines()) != name or not name.strip() for name in names) or len(set(names)) < len(names):
        raise ganzoo.GanzooError("The names of the classes cannot be written one a line: one is empty, or there twice.")
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return path


class Classes:
    """The classes of training images whose labels in the files are `train`, whole numbers (n,).

    names: of the numbers from 0, all of which are classes; without names, the numbers that training images have.
    only_trained: of the names, those that training images have.
    """

    def __init__(self, what: object, train: np.ndarray, names: Sequence[str] = (), only_trained: bool = False) -> None:
        self._what = what
        values = np.unique(train)
        if names and len(values) and (values[0] < 0 or values[-1] >= len(names)):
            wrong = values[0] if values[0] < 0 else values[-1]
            raise ganzoo.GanzooError(f"{what} has the label {wrong}, and names for the classes 0..{len(names) - 1}.")
        if names and not only_trained:
            values = np.arange(len(names))
        if len(values) > _MOST_CLASSES:
            raise ganzoo.GanzooError(
                f"The labels of {what} are {len(values)} different ones, more than {_MOST_CLASSES}: they must be "
                "classes."
            )
        self._values, self._names = values, tuple(names)
        #: as `Dataset.class_names`
        self.names: tuple[str, ...] = ()
        if names:
            self.names = tuple(names[value] for value in values)
        elif values.tolist() != list(range(len(values))):
            self.names = tuple(map(str, values.tolist()))

    def __len__(self) -> int:
        return len(self._values)

    def number(self, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The labels of images with these numbers in the files, and which images have a class, (n,) bool.

        An image whose class no training image has is left out, with a note.
        """
        labels = np.searchsorted(self._values, found).clip(max=len(self._values) - 1)
        known = self._values[labels] == found
        if not known.all():
            strange = np.unique(found[~known]).tolist()
            words = [self._names[one] if 0 <= one < len(self._names) else str(one) for one in strange[:5]]
            more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
            note_once(
                f"{int((~known).sum())} test images of {self._what} are left out, because no training image has their "
                f"label: {', '.join(words)}{more}."
            )
        return labels, known
