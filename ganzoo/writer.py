"""Writer: files written beside the training, one after the other, so that a step waits for none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Writer:
    """One thread that writes, and one job at a time: what fails there is raised here, at the next call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._pending: tuple[Future[Any], Callable[[Any], None]] | None = None

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Start `job` once the one before has ended; its result goes to `done`, in this thread, by `settle`."""
        self.settle()
        self._pending = self._pool.submit(job), done

    def settle(self) -> None:
        """Wait for what is being written, and hand its result on. Raises what the job raised."""
        if self._pending is not None:
            (future, done), self._pending = self._pending, None
            done(future.result())

    def close(self) -> None:
        """Wait for what is being written, whatever becomes of it."""
        self._pool.shutdown(wait=True)
