"""SIGINT, SIGTERM and SIGHUP end a run between two steps, with everything saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ganzoo.contract.errors import GanzooError


def ending_signals() -> list[signal.Signals]:
    """The signals that ask this process to end: Ctrl-C, SIGTERM, and SIGHUP of a terminal that was closed.

    Windows has no SIGHUP. Where SIGHUP is ignored, as under `nohup`, it stays ignored.
    """
    found = [signal.SIGINT, signal.SIGTERM]
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        found.append(hangup)
    return found


def leave_closed_terminal() -> None:
    """Send stdout and stderr to nowhere where they are a terminal that was closed: writing to it raises OSError."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def signal_in_words(number: int) -> str:
    """What a user did to send this signal, `Ctrl-C`; for others the name of the signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _print_at_once(line: str) -> None:
    """Write a line to stderr, from a signal handler: Python's own buffers may be in use when the signal arrives.

    On a terminal it has lines of its own: a live display, of up to two lines, is drawn over the ones below.
    """
    with suppress(OSError):
        os.write(2, (f"\n{line}\n\n" if os.isatty(2) else f"{line}\n").encode())


class Interrupted(GanzooError):
    """A signal ended the run; the message says what is saved and how to continue."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Signals:
    """Remembers SIGINT, SIGTERM and SIGHUP; a second SIGINT raises KeyboardInterrupt at once.

    `answer` is what the first SIGINT prints at once, because a step may take long; nothing where it is empty.
    """

    def __init__(self, answer: str = "") -> None:
        self._answer = answer
        #: number of the signal that arrived; 0 where none did
        self.number = 0

    def _handle(self, number: int, _: object) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        if self._answer and number == signal.SIGINT:
            _print_at_once(self._answer)
        if signal.Signals(number).name == "SIGHUP":
            leave_closed_terminal()

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
        handled = ending_signals() if threading.current_thread() is threading.main_thread() else []
        before = {number: signal.signal(number, self._handle) for number in handled}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
