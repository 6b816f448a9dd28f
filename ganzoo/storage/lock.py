"""Locks: one writer for each run, and blocks of code that only one process at a time may run."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ganzoo.contract.errors import GanzooError
from ganzoo.storage.files import parse_json

#: the lock file of a run directory; it exists for moments only
GUARD = ".guard"


class WrittenByOther(GanzooError):
    """A living process writes in the run directory; `same_job` says whether it is of the same job."""

    def __init__(self, message: str, same_job: bool) -> None:
        super().__init__(message)
        self.same_job = same_job


class Lock:
    """The right to write in a run directory, held until `release`. Raises WrittenByOther if a living process holds it.

    The file `lock` names the process. If that process no longer exists, its lock is taken over. `job` is the name of
    the torchrun job of this process. Such a job has one writer at a time, so a lock of the same job on another machine
    is taken over: the process there has ended, or will end because the others have left it.
    """

    def __init__(self, directory: Path, job: str = "") -> None:
        self._job = job
        self.directory, self._path = directory, directory / "lock"
        #: whether a process that no longer exists had left its lock here
        self.taken_over = False
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "start": _process_start(os.getpid())}
        mine |= {"boot": _boot(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z"), "directory": _identity(directory)}
        mine |= {"job": job} if job else {}
        self._text = json.dumps({**mine, "token": uuid.uuid4().hex})
        with exclusive(directory / GUARD):
            if self._path.is_dir() and not self._path.is_symlink():
                raise GanzooError(f"{self._path} is a directory, where the lock of a run is a file: remove it.")
            if os.path.lexists(self._path):
                copied = self._refuse_living_owner()
                self._path.unlink(missing_ok=True)
                self.taken_over = not copied
            try:
                with open(self._path, "x", encoding="utf-8") as file:
                    file.write(self._text)
            except FileExistsError:
                raise GanzooError(f"{directory} is being taken by another process; try again.") from None

    def _refuse_living_owner(self) -> bool:
        """Raise GanzooError if the owner of the lock is alive. Returns whether the lock was made for another directory.

        A directory that was copied while it was written has the lock of the original in it.
        """
        owner = _read_owner(self._path)
        if owner is None:
            return False  # half-written by a process that died
        since = f", since {owner.since}" if owner.since else ""
        same_job = bool(self._job) and owner.job == self._job
        if not owner.is_here:
            if same_job:
                return False
            raise GanzooError(
                f"{self.directory} is locked by process {owner.pid} on {owner.host}{since}; if that one is gone, or "
                f"this is a copy of its run, remove {self._path} and try again."
            )
        if owner.directory not in (None, _identity(self.directory)):
            return True
        if owner.is_alive:
            here = f" ({owner.host}{since})" if since else ""
            raise WrittenByOther(
                f"{self.directory} is being written by process {owner.pid} on this machine{here}; stop that one first.",
                same_job,
            )
        return False

    def release(self) -> None:
        """Remove the lock file, if it is still that of this process."""
        if self._path.is_file() and self._path.read_text(encoding="utf-8") == self._text:
            self._path.unlink()


@dataclasses.dataclass(frozen=True)
class Owner:
    """The process that a lock file names."""

    pid: int
    host: str
    #: an identifier of the process among those with its number
    start: str | None
    boot: str | None
    #: when the lock was made; empty in locks of version 0.1.0
    since: str
    #: the identity of the directory that the lock was made for
    directory: list[int] | None
    #: the name of its torchrun job; empty without one
    job: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process still exists. It is not known of other machines: then it is False."""
        # process numbers and starts are counted anew in every boot
        same_boot = self.is_here and self.boot in (None, _boot())
        return same_boot and self.start is not None and _process_start(self.pid) == self.start


def _read_owner(lock_file: Path) -> Owner | None:
    """The owner that a lock file names; None where there is no such file, or half of one."""
    try:
        found = parse_json(lock_file.read_bytes())
        owner = Owner(
            int(found["pid"]),
            found["host"],
            found["start"],
            found.get("boot"),
            str(found.get("since") or ""),
            found.get("directory"),
            str(found.get("job") or ""),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return owner


def writer(directory: Path) -> Owner | None:
    """The process that writes in a run directory now; None without one. Nothing is changed.

    A process of another machine counts as one that writes, because it is not known whether it still exists.
    """
    owner = _read_owner(directory / "lock")
    if owner is None or (owner.is_here and owner.directory not in (None, _identity(directory))):
        return None
    return owner if not owner.is_here or owner.is_alive else None


@contextmanager
def exclusive(lock_file: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Run the block in one process at a time; the others wait, and call `on_wait` before. Yields whether it is locked.

    Where no lock is possible (a read-only folder, or a file system without locks) the block runs all the same, and
    False is yielded. `lock_file` exists only while the block runs, or after a process was killed in it. Raises OSError
    where its folder is missing.
    """
    lock_file.parent.stat()  # FileLock would make the folder
    lock = FileLock(lock_file)
    with suppress(OSError, NotImplementedError):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            on_wait()
            lock.acquire(poll_interval=0.01)
    try:
        yield lock.is_locked
    finally:
        if lock.is_locked:
            # while it is held: a process that waits for the removed file notices that, and makes a new one
            with suppress(OSError):
                lock_file.unlink()
            lock.release()


def _identity(directory: Path) -> list[int] | None:
    """Numbers that a directory keeps where it is renamed, and that a copy of it does not have; None without any."""
    status = directory.stat()
    return [status.st_dev, status.st_ino] if status.st_ino else None


def _boot() -> str | None:
    """An identifier of this boot of the machine; None where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _process_start(pid: int) -> str | None:
    """An identifier of the process that has this number now; None if there is no such process."""
    try:
        state, *facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else facts[18]  # dead, and not yet waited for by its parent
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # there is such a process, of another user
    except (OSError, OverflowError):
        return None
    return "alive"  # no /proc here: a living process of that number counts as the owner
