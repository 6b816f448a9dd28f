"""Directories that a new run may be made in."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ganzoo.contract.choice import short_name
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.paths import is_directory, is_file
from ganzoo.contract.recipe import Recipe
from ganzoo.storage.files import make_directory
from ganzoo.storage.lock import GUARD
from ganzoo.storage.run_checks import is_environment


def refuse_taken(path: Path) -> None:
    """Raise UsageError if no new run can be made in `path`."""
    if not is_directory(path) and path.exists():
        raise UsageError(f"{path} is a file; --out needs a new or empty directory.")
    if is_file(path / "recipe.json"):
        raise UsageError(
            f"{path} holds a run already: continue it with `ganzoo resume {shlex.quote(str(path))}`, or choose "
            f"another --out."
        )
    # leftovers of a process that was killed before its run was complete may be overwritten
    leftovers = (".environment.json.", ".recipe.json.", GUARD)
    try:
        names = [child.name for child in path.iterdir()] if path.is_dir() else []
    except OSError as error:
        raise UsageError(f"{path} cannot be listed ({error.strerror}): choose another --out.") from None
    if strange := [name for name in names if name != "lock" and not name.startswith(leftovers)]:
        if strange == ["environment.json"] and is_environment(path / "environment.json"):
            return
        raise UsageError(f"{path} is not empty and holds no run; choose a new or empty directory for --out.")


def free_directory(recipe: Recipe, parent: Path) -> Path:
    """The first free one of `parent/ARCHITECTURE-DATASET`, `parent/ARCHITECTURE-DATASET-2`, and so on."""
    return next(path for path in default_directories(recipe, parent) if not os.path.lexists(path))


def claim_directory(recipe: Recipe, parent: Path) -> Path:
    """Make the directory that `free_directory` names: another process that asks at the same time gets another one.

    Raises GanzooError where none can be made.
    """
    path = parent
    try:
        make_directory(parent)
        for path in default_directories(recipe, parent):
            with suppress(FileExistsError):
                path.mkdir()
                return path
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or half a character
        raise GanzooError(f"Cannot write a run to {path}: {getattr(error, 'strerror', None) or error}.") from None
    raise GanzooError(f"{parent} has no free name left for this run: name a directory by --out.")


def default_directories(recipe: Recipe, parent: Path) -> Iterator[Path]:
    """The directories of a run of this recipe that are tried in turn, where the user names none."""
    base = "-".join(short_name(c).lower() for c in (recipe.architecture, recipe.dataset))
    yield parent / base
    yield from (parent / f"{base}-{number}" for number in range(2, 10_000))
