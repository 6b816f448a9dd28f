"""SIGINT and SIGTERM end a run between two steps, with everything saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ganzoo.contract.errors import GanzooError


class Interrupted(GanzooError):
    """A signal ended the run between two steps; everything is saved."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Signals:
    """Remembers SIGINT and SIGTERM; a second SIGINT raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        #: number of the signal that arrived; 0 where none did
        self.number = 0

    def _handle(self, number: int, _: object) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def received_on_any_rank(self, max_over_ranks: Callable[[int], int]) -> bool:
        """Whether a signal arrived at any process of the training. All processes take over its number.

        `max_over_ranks` returns the largest of the numbers that all processes pass to it, so all must call this.
        """
        if number := max_over_ranks(self.number):
            self.number = number
        return bool(number)

    @contextmanager
    def installed(self) -> Iterator[Signals]:
        """Handle the signals inside this block, and restore the handlers after it."""
        # Python allows handlers only in the main thread
        handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._handle) for number in handled}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
