"""The classes of a conditional generator: from names and numbers to labels, and to the names of rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ganzoo.contract.choice import short_name
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.engine.sampler import balanced_labels
from ganzoo.results.load import TrainedGenerator


def class_number(trained: TrainedGenerator, label: int | str) -> int:
    """The number of a class of the run's dataset, from its number (int) or its name.

    A text that is no name is read as a number, unless some class has a number as its name: `2` is then always a name.
    Raises UsageError for a class that the generator cannot draw.
    """
    if not trained.architecture.conditional:
        name = short_name(trained.run.recipe.architecture)
        raise UsageError(f"--class {label}: {name} is not conditional, it draws no class on demand.")
    names = [str(name) for name in trained.class_names]
    if isinstance(label, str) and label in names:
        return names.index(label)
    numbered = not any(name.isdecimal() for name in names)
    if isinstance(label, str) and numbered and label.isdecimal() and len(label) < 10:
        label = int(label)
    if isinstance(label, int) and 0 <= label < trained.images.classes:
        return int(label)
    raise UsageError(f"--class {label}: the run's dataset has the classes {_class_list(names)}.{_near(label, names)}")


def class_numbers(trained: TrainedGenerator, classes: str | Sequence[int | str]) -> list[int]:
    """The numbers of several classes. A text is one name, or a list: `0..9`, `0,3,5`, `cats,dogs`.

    Raises UsageError for a class that the generator cannot draw, for a range that is empty, and without a class.
    """
    if isinstance(classes, str):
        names = [str(name) for name in trained.class_names]
        classes = [classes] if classes in names else [part for part in classes.split(",") if part.strip()]
        classes = [number for part in classes for number in _range(trained, str(part).strip(), names)]
    numbers = [class_number(trained, label) for label in classes]
    if not numbers:
        raise UsageError("No class is named; leave the classes out to draw all of them.")
    return numbers


def _range(trained: TrainedGenerator, text: str, names: Sequence[str]) -> list[int | str]:
    """The classes of a text such as `3..6`; the text itself where it is no range."""
    ends = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", text)
    if not ends or text in names:
        return [text]
    first, last = (class_number(trained, end) for end in ends.groups())
    if first > last:
        raise UsageError(f"--classes {text}: the range is empty; write {ends[2]}..{ends[1]}.")
    return list(range(first, last + 1))


def labels_for(
    trained: TrainedGenerator, count: int, columns: int, classes: str | Sequence[int | str] | None = None
) -> Tensor:
    """Labels (count,) int64 on the generator's device: one class for each `columns` in a row, the classes in turn."""
    numbers = range(trained.images.classes) if classes is None else class_numbers(trained, classes)
    chosen = torch.as_tensor(numbers, device=trained.device)
    of_rows = chosen[balanced_labels(-(-count // columns), len(chosen), trained.device)]
    return of_rows.repeat_interleave(columns)[:count]


def row_names(trained: TrainedGenerator, labels: Tensor) -> list[str]:
    """The class names of `labels`, one for each row of a grid; none if the generator is not conditional."""
    return [trained.class_names[label] for label in labels.tolist()] if trained.architecture.conditional else []


def file_word(name: str, number: int) -> str:
    """A class in a file name: `7`, or `2-dogs` where the name is another one than the number."""
    word = re.sub(r"\W+", "-", name).strip("-")[:40]
    return f"{number}-{word}" if word and word != str(number) else str(number)


def _near(label: int | str, names: Sequence[str]) -> str:
    return did_you_mean(label, names) if isinstance(label, str) else ""


def _class_list(names: Sequence[str]) -> str:
    """`0 to 9` where the numbers are the names, else `cats, dogs` (0 to 1)."""
    last = len(names) - 1
    if list(names) == [str(number) for number in range(len(names))]:
        return f"0 to {last}"
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"{shown} (numbers 0 to {last})"


def labels_file(array: Path) -> Path:
    """The file beside an array of samples, `x.labels.csv` for `x.npy`: columns image (its index), label and class."""
    return array.with_suffix(".labels.csv")
