"""Interrupting a call: everything is saved, and the caller's own loop stops as well."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo.training.signals import Interrupted

if TYPE_CHECKING:
    from ganzoo.api.trained_run import TrainedRun


class TrainingInterrupted(KeyboardInterrupt):
    """A training was stopped by Ctrl-C, by a notebook's stop button, by SIGTERM or by SIGHUP, and everything is saved.

    It is a KeyboardInterrupt, so that `except Exception` around a loop of trainings does not catch it.
    """

    def __init__(self, message: str, path: Path | None) -> None:
        super().__init__(message)
        #: directory of the run that was stopped; None for a benchmark or a speedrun, which are made of many
        self.path = path

    @property
    def run(self) -> TrainedRun:
        """The run that was stopped. Raises UsageError where it was more than one run."""
        from ganzoo.api.functions import load
        from ganzoo.contract.errors import UsageError

        if self.path is None:
            raise UsageError("Many runs were stopped: call the same function again to go on with all of them.")
        return load(self.path)


@contextmanager
def interruptible(path: Path | None = None) -> Iterator[None]:
    """Raise TrainingInterrupted where the training of the run in `path` is stopped by a signal."""
    try:
        yield
    except Interrupted as stopped:
        message = str(stopped)
        if path is not None:  # the command line's advice, as a call
            message = message.replace(f"ganzoo resume {shlex.quote(str(path))}", f"ganzoo.resume({str(path)!r})")
        raise TrainingInterrupted(message, path) from None  # the command line finds `stopped` as its context
