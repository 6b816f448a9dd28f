"""Paths as users write them, and the folders of data and caches."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from ganzoo.contract.errors import UsageError


def absolute_path(path: str | Path) -> Path:
    """The absolute path, with `~` and links resolved. Raises UsageError for text that cannot be a path.

    If there is no user `name`, `~name` is an ordinary file name.
    """
    try:
        return Path(os.path.expanduser(path)).resolve()
    # the name is too long, it contains NUL or half of a surrogate pair, or links form a loop
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{str(path)[:80]!r} cannot be a path: {error}.") from None


def data_dir() -> Path:
    """The folder of the datasets: `GANZOO_DATA` if it is set, else `data` in `cache_dir()`."""
    return Path(os.path.expanduser(os.environ.get("GANZOO_DATA") or cache_dir() / "data"))


def cache_dir() -> Path:
    """The folder of files that can be made again: `GANZOO_CACHE` if set, else `ganzoo` in the user's cache folder.

    The user's cache folder is `XDG_CACHE_HOME` if set, else `~/.cache`.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("GANZOO_CACHE") or Path(base) / "ganzoo"))


def filled_folders(root: Path) -> list[str]:
    """The names of the folders in `root` that hold a file at any depth. A failed download leaves an empty folder."""
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    return sorted(folder.name for folder in folders if any(files for _, _, files in os.walk(folder)))


def is_file(path: Path) -> bool:
    """Whether `path` is a file. Raises UsageError if it cannot be known: no permission, or the name is too long.

    `Path.is_file` raises PermissionError for a folder without permission (until Python 3.13) or returns False (3.14).
    Neither of the two explains the cause to the user.
    """
    return _is(path, Path.is_file)


def is_directory(path: Path) -> bool:
    """Whether `path` is a directory. Raises UsageError as `is_file` does."""
    return _is(path, Path.is_dir)


def _is(path: Path, check: Callable[[Path], bool]) -> bool:
    try:
        found = check(path)
        if not found:
            path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EBADF):
            return False
        too_long = error.errno == errno.ENAMETOOLONG
        advice = "give a shorter path" if too_long else "give a path that you may read, or change its permissions"
        raise UsageError(f"{path} cannot be read ({error.strerror}): {advice}.") from None
    return found
