"""A model of power loss: the possible contents of a disk if the power fails after the first N operations of a process.

`Tape` records the file operations below one folder. `Disk` applies the first N of them and returns possible contents.
Synced data is certain to be there: the bytes of a file after fsync of the file, a name in a directory after fsync of
the directory. Of all other data any part may be there: each pending change of a directory independently, and of
unsynced bytes all, half, none, or zeros in their place. A rename is atomic.
"""

from __future__ import annotations

import builtins
import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: an operation: its name and its arguments
Operation = tuple[Any, ...]
#: name -> the content on the disk of bytes that were written and not synced
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "all": lambda data: data,
    "half": lambda data: data[: len(data) // 2],
    "none": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


class Tape:
    """The operations of this process on the files below `root`, in the order in which they were done."""

    def __init__(self, root: Path) -> None:
        self.root, self.operations = str(root), [("mkdir", ".")]
        self._one_at_a_time = threading.RLock()

    def mark(self, *words: Any) -> None:
        """Record a mark, with which a test identifies this point of the recording."""
        self.operations.append(("mark", *words))

    def _place(self, path: Any, dir_fd: int | None = None) -> str | None:
        """A path relative to the root; None for one elsewhere."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        elif dir_fd is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
        relative = os.path.relpath(os.path.abspath(path), self.root)
        return None if relative.startswith("..") else relative

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Context manager: record all operations. The process changes files only by functions of `os` and by `open`."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "fdatasync", "mkdir", "rmdir", "unlink", "remove", "rename", "replace", "truncate"):
                patch.setattr(os, name, self._watched(name, getattr(os, name)))
            patch.setattr(os, "open", self._os_open)
            patch.setattr(builtins, "open", self._open)
            patch.setattr(io, "open", self._open)  # used by pathlib
            yield

    def _watched(self, name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        kind = {"remove": "unlink", "replace": "rename", "fdatasync": "fsync"}.get(name, name)

        def watched(path: Any, *args: Any, **more: Any) -> Any:
            with self._one_at_a_time:
                place = self._place(path, more.get("dir_fd"))
                target = [self._place(args[0])] if kind == "rename" else []
                result = do(path, *args, **more)
                if place is not None:
                    self.operations.append((kind, place, *target))
            return result

        return watched

    def _os_open(self, path: Any, flags: int, *args: Any, **more: Any) -> int:
        """Record the creation of a file by os.open. Lock files are created in this way; nothing is written to them."""
        with self._one_at_a_time:
            place = self._place(path, more.get("dir_fd"))
            new = bool(flags & os.O_CREAT) and place is not None and not os.path.exists(path)
            descriptor = _OS_OPEN(path, flags, *args, **more)
            if new:
                self.operations.append(("create", place))
            return descriptor

    def _open(self, path: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        with self._one_at_a_time:
            place = self._place(path)
            new = place is not None and not os.path.exists(path)
            file = _OPEN(path, mode, *args, **more)
            if place is None or not set(mode) & set("wax+"):
                return file
            assert "r" not in mode, f"{path} is written over in place"
            if new:
                self.operations.append(("create", place))
            elif "w" in mode:
                self.operations.append(("empty", place))
            return _Written(file, lambda data: self.operations.append(("write", place, data)))


_OPEN, _OS_OPEN = builtins.open, os.open


class _Written:
    """A file that is written sequentially; `record` is called with the bytes of each write."""

    def __init__(self, file: Any, record: Callable[[bytes], Any]) -> None:
        self._file, self._record = file, record

    def write(self, data: Any) -> int:
        self._record(data.encode() if isinstance(data, str) else bytes(data))
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _File:
    def __init__(self) -> None:
        self.data, self.synced = b"", b""


class _Directory:
    def __init__(self) -> None:
        self.entries: dict[str, _File | _Directory] = {}
        self.synced: dict[str, _File | _Directory] = {}
        #: changes since the last fsync: (name that is removed or None, name that is added or None, its file or
        #: directory)
        self.pending: list[tuple[str | None, str | None, Any]] = []

    def change(self, gone: str | None, new: str | None, what: Any = None) -> None:
        self.pending.append((gone, new, what))
        _change(self.entries, self.pending[-1])


def _change(entries: dict[str, Any], change: tuple[str | None, str | None, Any]) -> None:
    gone, new, what = change
    if gone is not None:
        entries.pop(gone, None)
    if new is not None:
        entries[new] = what


class Disk:
    """The state of a disk after the first operations of a tape."""

    def __init__(self) -> None:
        self.root = _Directory()
        self.marks: list[Operation] = []

    def _at(self, place: str) -> Any:
        found: Any = self.root
        for name in Path(place).parts:
            found = found.entries[name]
        return found

    def do(self, operation: Operation) -> None:
        """Apply the next operation of the tape."""
        kind, *facts = operation
        if kind == "mark":
            return self.marks.append(tuple(facts))
        if facts[0] == ".":
            if kind == "fsync":
                self._sync(self.root)
            return None
        parent, name = self._at(os.path.dirname(facts[0])), os.path.basename(facts[0])
        if kind in ("create", "mkdir"):
            parent.change(None, name, _File() if kind == "create" else _Directory())
        elif kind in ("unlink", "rmdir"):
            parent.change(name, None)
        elif kind == "rename":
            assert os.path.dirname(facts[0]) == os.path.dirname(facts[1])
            parent.change(name, os.path.basename(facts[1]), parent.entries[name])
        elif kind == "write":
            parent.entries[name].data += facts[1]
        elif kind == "empty":
            parent.entries[name].data = b""
        elif kind == "fsync":
            self._sync(parent.entries[name])
        else:
            raise AssertionError(f"the model knows no {kind}")
        return None

    def _sync(self, what: _File | _Directory) -> None:
        if isinstance(what, _File):
            what.synced = what.data
        else:
            what.synced, what.pending = dict(what.entries), []

    def after_power_loss(self, keeps: Callable[[], bool], damage: str) -> dict[str, bytes | None]:
        """One possible state after power loss now: path -> bytes of a file, or None for a directory.

        `keeps` is called for each pending change of a directory and returns whether it is on the disk. `damage` is a
        key of DAMAGES, for bytes that were not synced.
        """
        found: dict[str, bytes | None] = {}

        def walk(directory: _Directory, place: str) -> None:
            entries = dict(directory.synced)
            for change in directory.pending:
                if keeps():
                    _change(entries, change)
            for name, what in entries.items():
                path = f"{place}/{name}".lstrip("/")
                if isinstance(what, _Directory):
                    found[path] = None
                    walk(what, path)
                elif what.data.startswith(what.synced):
                    found[path] = what.synced + DAMAGES[damage](what.data[len(what.synced) :])
                else:  # truncated, then written again
                    found[path] = DAMAGES[damage](what.data)

        walk(self.root, "")
        return found


def states(disk: Disk, rng: random.Random, subsets: int) -> Iterator[dict[str, bytes | None]]:
    """Possible states: none, all, or `subsets` random selections of the pending changes, each with every damage."""
    choices = [lambda: False, lambda: True, *[lambda: rng.random() < 0.5] * subsets]
    for keeps in choices:
        for damage in DAMAGES:
            yield disk.after_power_loss(keeps, damage)


class Stage:
    """A folder that is set to one state after the other; only differences are written."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._state = folder, {}
        folder.mkdir()

    def show(self, state: dict[str, bytes | None]) -> None:
        """Make the folder hold this state."""
        for path in sorted(self._state.keys() - state.keys(), reverse=True):  # deeper paths first
            place = self.folder / path
            place.rmdir() if self._state[path] is None else place.unlink()
        for path, data in state.items():
            if data is None:
                (self.folder / path).mkdir(exist_ok=True)
            elif self._state.get(path, 0) != data:
                (self.folder / path).write_bytes(data)
        self._state = state
