"""Find the runs below a directory, by the names of files alone: so quickly that the shell can complete them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: folders below the directory that is searched: DIR/benchmark/runs/NAME is at the third
_DEPTH = 4


def is_run(path: Path) -> bool:
    """Whether a directory holds a run, possibly a damaged one: a recipe.json, or the other files of one."""
    with suppress(OSError):
        names = set(os.listdir(path))
        return "recipe.json" in names or {"environment.json", "history.json"} <= names
    return False


def find_runs(directory: Path, depth: int = _DEPTH, most_folders: int = 100_000) -> Iterator[Path]:
    """The runs in a directory and up to `depth` folders below it, by name; not those behind links or in hidden folders.

    At most `most_folders` folders are looked into. Folders that may not be read are passed over.
    """
    waiting = [(directory, 0)]
    while waiting and most_folders > 0:
        folder, level = waiting.pop(0)
        most_folders -= 1
        if is_run(folder):
            yield folder
        elif level < depth:
            with suppress(OSError), os.scandir(folder) as entries:
                inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
                waiting += [(folder / name, level + 1) for name in sorted(inner) if not name.startswith(".")]
