"""Find the runs below the paths of a report: run directories, benchmark folders, and folders of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ganzoo.contract.errors import UsageError
from ganzoo.contract.paths import is_directory, is_file

#: how many folders deep a run is looked for below a path
_DEEPEST = 4
#: folders of a run or a benchmark in which no run is looked for
_NOT_SEARCHED = {"samples", "generators", "checkpoints", "logs", "cells", "__pycache__"}
#: files that only a run has; a folder with one of them and without recipe.json is a damaged run
_TRACES = ("environment.json", "stats.jsonl", "scores.jsonl", "history.json")


@dataclass
class Sources:
    """What lies below the paths of a report."""

    #: run directories, without repetition
    runs: list[Path] = field(default_factory=list)
    #: folders of benchmarks
    benchmarks: list[Path] = field(default_factory=list)
    #: directories that look like a run, but have no recipe.json
    damaged: list[Path] = field(default_factory=list)


def find_sources(paths: Sequence[Path]) -> Sources:
    """The runs and benchmarks below `paths`. A directory that is named twice, or by two names, counts once.

    Raises UsageError for a path that does not exist, that is a file, or below which there is no run.
    """
    if not paths:
        raise UsageError("Name at least one run, benchmark, or folder of runs.")
    sources, seen = Sources(), set[str]()
    for path in paths:
        if is_file(path) and path.name == "table.json":
            path = path.parent  # noqa: PLW2901  (the table of a benchmark stands for its folder)
        if not is_directory(path):
            what = "is a file" if is_file(path) else "does not exist"
            raise UsageError(f"{path} {what}: name the directory of a run, of a benchmark, or one with runs in it.")
        before = len(seen)
        _search(path, sources, seen, 0)
        if len(seen) == before and not _known(path, seen):
            raise UsageError(
                f"{path} holds no run and no benchmark: name the directory that `ganzoo train` or `ganzoo benchmark` "
                f"printed, or a folder with such directories."
            )
    return sources


def _known(path: Path, seen: set[str]) -> bool:
    """Whether the path, or something below it, was found by way of another path."""
    real = os.path.realpath(path)
    return any(one == real or one.startswith(real + os.sep) for one in seen)


def _search(path: Path, sources: Sources, seen: set[str], depth: int) -> None:
    real = os.path.realpath(path)
    if real in seen:
        return
    if (path / "recipe.json").is_file():
        seen.add(real)
        sources.runs.append(path)
        return
    if (path / "cells").is_dir() and (path / "runs").is_dir():
        seen.add(real)
        sources.benchmarks.append(path)
    elif any((path / name).is_file() for name in _TRACES):
        seen.add(real)
        sources.damaged.append(path)
        return
    if depth < _DEEPEST:
        for child in _folders(path):
            _search(child, sources, seen, depth + 1)


def _folders(path: Path) -> Iterator[Path]:
    """The folders in `path` in which runs may be, sorted by name. Links to folders are not followed."""
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return
    for name in names:
        child = path / name
        if name not in _NOT_SEARCHED and not name.startswith(".") and child.is_dir() and not child.is_symlink():
            yield child
