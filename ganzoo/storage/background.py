"""Write files in a thread, one after the other, while the training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class BackgroundWriter:
    """A thread for one write job at a time. An error of a job is raised by the next call of `submit` or `settle`."""

    def __init__(self) -> None:
        self._pending: tuple[Future[Any], Callable[[Any], None]] | None = None
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Start `job` after the one before has ended; `settle` passes its result to `done`, in the calling thread."""
        self.settle()
        future: Future[Any] = Future()

        def write() -> None:
            try:
                future.set_result(job())
            except BaseException as error:  # raised again by `settle`
                future.set_exception(error)

        # a daemon: a process that is interrupted twice does not wait for a disk that hangs
        self._thread = threading.Thread(target=write, name="writer", daemon=True)
        self._thread.start()
        self._pending = future, done

    def settle(self) -> None:
        """Wait for the job and pass its result to `done`. Raises the error of the job, if there was one."""
        if self._pending is not None:
            (future, done), self._pending = self._pending, None
            done(future.result())

    def close(self, seconds: float | None = None) -> None:
        """Wait until the job has ended, with or without an error; at most `seconds`, if given."""
        if self._thread is not None:
            # not only for the result: Python aborts if it ends while the thread still frees tensors
            self._thread.join(seconds)
