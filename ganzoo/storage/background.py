"""Writer: files written beside the training, one after the other, so that a step waits for none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class BackgroundWriter:
    """A thread that writes, and one job at a time: what fails there is raised here, at the next call."""

    def __init__(self) -> None:
        self._pending: tuple[Future[Any], Callable[[Any], None]] | None = None
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Start `job` once the one before has ended; its result goes to `done`, in this thread, by `settle`."""
        self.settle()
        future: Future[Any] = Future()

        def write() -> None:
            try:
                future.set_result(job())
            except BaseException as error:  # whatever it is, it is raised by `settle`
                future.set_exception(error)

        # a daemon: a process that was told twice to end waits for no disk that hangs
        self._thread = threading.Thread(target=write, name="writer", daemon=True)
        self._thread.start()
        self._pending = future, done

    def settle(self) -> None:
        """Wait for what is being written, and hand its result on. Raises what the job raised."""
        if self._pending is not None:
            (future, done), self._pending = self._pending, None
            done(future.result())

    def close(self, seconds: float | None = None) -> None:
        """Wait for what is being written, whatever becomes of it; at most so many seconds, if given."""
        if self._thread is not None:
            # for its end, not for its result: a thread that still lets tensors go when Python ends aborts the process
            self._thread.join(seconds)
