"""Paths as users write them, and the folders of data and caches."""

from __future__ import annotations

import os
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
    """The folder of the datasets: `GANZOO_DATA` if it is set, else `~/.cache/ganzoo/data`."""
    return Path(os.path.expanduser(os.environ.get("GANZOO_DATA") or cache_dir() / "data"))


def cache_dir() -> Path:
    """The folder of files that can be made again: `GANZOO_CACHE` if set, else `ganzoo` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("GANZOO_CACHE") or Path(base) / "ganzoo"))
