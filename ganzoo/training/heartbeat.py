"""The heartbeat of a training: about once a second the displays learn how far it is, also between two ticks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from ganzoo.contract.hooks import TrainingProgress
from ganzoo.engine.progress import Progress

#: seconds before the first beat, and between two
_FIRST, _INTERVAL = 2.0, 1.0
#: seconds without a beat after which a step counts as long
_LONG_STEP = 1.0


@runtime_checkable
class Display(Protocol):
    """An observer that shows the progress between the hooks."""

    def on_heartbeat(self, progress: TrainingProgress, doing: str = "") -> None:
        """The training has come this far, and is `doing` something other than steps if that is not empty.

        It is called from the training or, in a long step, from another thread, but never from both at once.
        """


class Heartbeat:
    """Calls the displays among some observers, at most once a second."""

    def __init__(self, observers: Iterable[object]) -> None:
        self._displays = [observer for observer in observers if isinstance(observer, Display)]
        self._due = time.monotonic() + _FIRST
        self._beating = threading.Lock()

    def __call__(self, progress: Progress, doing: str = "") -> None:
        """Tell the displays, if a second has passed."""
        if self._displays and time.monotonic() >= self._due and self._beating.acquire(blocking=False):
            try:
                self._due = time.monotonic() + _INTERVAL
                for display in self._displays:
                    display.on_heartbeat(progress.snapshot, doing)
            finally:
                self._beating.release()

    def means(self, progress: Progress, scalars: dict[str, float]) -> None:
        """Pass the means since the last tick to the displays that have a method `on_means`, where there are some."""
        for display in self._displays if scalars else ():
            if on_means := getattr(display, "on_means", None):
                on_means(progress.snapshot, scalars)

    @contextmanager
    def watching(self, progress: Progress) -> Iterator[None]:
        """Beat also within a step that takes long: the first one of large networks may take a minute."""
        ended = threading.Event()

        def watch() -> None:
            step, since = progress.step, time.monotonic()
            while not ended.wait(_LONG_STEP / 4):
                now = time.monotonic()
                if progress.step != step:
                    step, since = progress.step, now
                elif now >= self._due + _LONG_STEP / 2:
                    self(progress, f"{now - since:.0f} s since step {step}")

        thread = threading.Thread(target=watch, daemon=True, name="ganzoo-heartbeat")
        if self._displays:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if self._displays:
                thread.join()
