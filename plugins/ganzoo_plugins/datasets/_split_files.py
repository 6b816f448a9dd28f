"""Which of the files of a large dataset hold the training and which the test images."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import ganzoo
from ganzoo_plugins.datasets._listing import TEST_NAMES, TRAIN_NAMES, some_of


def split_files(root: Path, names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The files of the training images, those of the test images (none: these have none of their own), and notes.

    A file belongs to the split whose word is in its path: `train/0001.tar`, `val-0001.tar`, `imagenet-test-1.tar`.
    """
    by_word: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found = [word for word in re.split(r"[^a-z]+", name.lower()) if word in (*TRAIN_NAMES, *TEST_NAMES)]
        by_word[found[0] if found else ""].append(name)
    trained = next((word for word in TRAIN_NAMES if word in by_word), "")
    tested = next((word for word in TEST_NAMES if word in by_word), "")
    if not (trained and tested):
        return list(names), [], []
    others = [name for word, files in by_word.items() if word not in (trained, tested) for name in files]
    unused = f"{root} has files of no split that is used: {some_of(others)}; {trained} is trained on, {tested} tested."
    return by_word[trained], by_word[tested], [unused] if others else []


def check_complete(root: Path, names: Sequence[str]) -> list[str]:
    """Raise GanzooError unless all files named `...-00003-of-00010` are there; notes of other gaps in their numbers."""
    counted: dict[tuple[str, str], set[int]] = defaultdict(set)
    numbered: dict[str, list[int]] = defaultdict(list)
    for name in names:
        stem = str(PurePosixPath(name).with_suffix(""))
        if match := re.search(r"(.*?)-?(\d+)-of-(\d+)", stem):
            counted[match[1], match[3]].add(int(match[2]))
        elif match := re.fullmatch(r"(.*?)(\d+)", stem):
            numbered[match[1]].append(int(match[2]))
    for (prefix, total), numbers in counted.items():
        # some count from 0, some from 1
        wanted = range(int(total)) if 0 in numbers or int(total) not in numbers else range(1, int(total) + 1)
        if missing := sorted(set(wanted) - numbers):
            raise ganzoo.GanzooError(
                f"{root} lacks {len(missing)} of the {int(total)} files {prefix}-...-of-{total}, first number "
                f"{missing[0]}: put them back, or give the others names without '-of-{total}'."
            )
    gaps = {prefix: sorted(set(range(min(found), max(found))) - set(found)) for prefix, found in numbered.items()}
    return [
        f"{root} has no file {prefix}{missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''} between "
        "those that it has: is one missing?"
        for prefix, missing in gaps.items()
        if missing
    ]
