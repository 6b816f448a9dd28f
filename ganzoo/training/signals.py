"""Signals: SIGINT and SIGTERM end a run between two steps, with everything saved."""

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
    """SIGINT and SIGTERM end the run between two steps; a second SIGINT ends it at once."""

    def __init__(self) -> None:
        self.number = 0

    def _note(self, number: int, _: object) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def received_on_any_rank(self, highest: Callable[[int], int]) -> bool:
        """Whether one has come to any process of the training: `highest` is of all their numbers.

        All of them hear it at the same step, and end as the one that was told.
        """
        if number := highest(self.number):
            self.number = number
        return bool(number)

    @contextmanager
    def installed(self) -> Iterator[Signals]:
        """Watch them for a while."""
        # only the main thread may set handlers; a training in another one ends by other means
        watched = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._note) for number in watched}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
