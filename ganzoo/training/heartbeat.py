"""The heartbeat of a training: about once a second the displays learn how far it is, also between two ticks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from ganzoo.contract.hooks import TrainingProgress
from ganzoo.engine.progress import Progress

#: seconds before the first beat, and between two
_FIRST, _INTERVAL = 2.0, 1.0


@runtime_checkable
class Display(Protocol):
    """An observer that shows the progress between the hooks."""

    def on_heartbeat(self, progress: TrainingProgress, doing: str = "") -> None:
        """The training has come this far, and is `doing` something other than steps if that is not empty."""


class Heartbeat:
    """Calls the displays among some observers, at most once a second."""

    def __init__(self, observers: Iterable[object]) -> None:
        self._displays = [observer for observer in observers if isinstance(observer, Display)]
        self._due = time.monotonic() + _FIRST

    def __call__(self, progress: Progress, doing: str = "") -> None:
        """Tell the displays, if a second has passed."""
        if self._displays and (now := time.monotonic()) >= self._due:
            self._due = now + _INTERVAL
            for display in self._displays:
                display.on_heartbeat(progress.snapshot, doing)
