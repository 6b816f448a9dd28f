"""Remember what was read from files, until they change."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

_Value = TypeVar("_Value")
#: of each file its name, the times at which its content and its facts changed, in ns, and its size in bytes; None where
#: it cannot be looked at
FileStates = tuple[tuple[str, tuple[int, int, int] | None], ...]


def states_of(files: Iterable[Path]) -> FileStates:
    """What tells whether files have changed, without a look into them. To be taken before the files are read."""
    return tuple((file.name, _state(file)) for file in files)


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size


@dataclass
class Memory(Generic[_Value]):
    """Values by key, each with the state that it was read in. All sizes together are at most `most`.

    A value that does not fit is not kept. Nothing is dropped to make room for it: a report reads its runs in the same
    order each time, so the value that was used longest ago is the one that is needed next.
    """

    most: int
    _entries: dict[Hashable, tuple[Hashable, int, _Value]] = field(default_factory=dict)
    _size: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: Hashable, state: Hashable) -> _Value | None:
        """The value of a key; None where none is kept, or one of another state."""
        entry = self._entries.get(key)
        return entry[2] if entry is not None and entry[0] == state else None

    def put(self, key: Hashable, state: Hashable, value: _Value, size: int = 1) -> None:
        """Keep a value if it fits, in place of the former one of this key."""
        with self._lock:
            self._drop(key)
            if self._size + size <= self.most:
                self._entries[key] = (state, size, value)
                self._size += size

    def keep(self, keys: Collection[Hashable]) -> None:
        """Forget everything but the values of these keys: those of the newest report."""
        with self._lock:
            for key in [key for key in self._entries if key not in keys]:
                self._drop(key)

    def clear(self) -> None:
        """Forget everything."""
        self.keep(())

    def _drop(self, key: Hashable) -> None:
        if key in self._entries:
            self._size -= self._entries.pop(key)[1]
