"""Messages to the user, and the words that say how far something is and how long it takes."""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import click

from ganzoo.contract.choice import Amount
from ganzoo.contract.hooks import TrainingProgress

#: seconds between plain lines
PLAIN_INTERVAL = 10.0
#: seconds of a wait before its first line
_FIRST_LINE = 2.0


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    # IPython is only looked up: where nothing has imported it, this is no notebook
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


def log(text: str) -> None:
    """Print a message: below the cell in a notebook, one line on stderr elsewhere."""
    try:
        click.echo(text, err=not in_notebook())
    except OSError as error:
        if error.errno != errno.EIO:  # of a terminal that was closed: no message is worth a training
            raise


class Waiting:
    """A context in which something long is done: after two seconds, and then every ten, a line says how far it is.

    It is called with the number of images that are done, and with the number that there are.
    """

    def __init__(self, what: str, show: Callable[[str], None] = log) -> None:
        self.what = what
        self._show = show
        self._state = (0, 0)
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="ganzoo-waiting")

    def __call__(self, done: int, total: int) -> None:
        """Note that `done` of `total` images are done. With 0 the estimate of the remaining time begins again."""
        if done == 0:
            self._started = time.monotonic()
        self._state = done, total

    def __enter__(self) -> Self:
        """Start to watch the clock."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        pause = _FIRST_LINE
        while not self._ended.wait(pause):
            pause = PLAIN_INTERVAL
            now = time.monotonic()
            done, total = self._state
            words = [f"{self.what}: {clock(now - began)}"]
            if done and total:
                left = (now - self._started) / done * (total - done)
                words += [f"{done:,} of {total:,} images", f"about {clock(left)} left"]
            self._show(", ".join(words))


def share_done(length: Amount, progress: TrainingProgress) -> float:
    """How much of the run's length is done, from 0 to 1."""
    position = length.count_of(progress.step, progress.images, progress.epochs)
    return min(1.0, position / length.count)


def position(length: Amount, progress: TrainingProgress) -> str:
    """The epoch, or the step of a run whose length is in steps."""
    return f"epoch {progress.epochs:.2f}" if length.unit != "steps" else f"step {progress.step}"


def losses(scalars: dict[str, Any]) -> str:
    """The losses and the accuracy of a tick, in short."""
    short = {"discriminator_loss": "D", "generator_loss": "G", "discriminator_accuracy": "accuracy"}
    return "  ".join(f"{short[name]} {scalars[name]:.4f}" for name in short if name in scalars)


def fitting(words: Sequence[str], columns: int) -> str:
    """The first of these words that fit into so many columns, two spaces apart."""
    shown = ""
    for word in filter(None, words):
        longer = f"{shown}  {word}" if shown else word
        if len(longer) > columns:
            break
        shown = longer
    return shown


def clock(seconds: float) -> str:
    """A time as `0:42` or `1:02:03`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class TimeLeft:
    """The time that a run still needs, at the speed it had since it was first asked."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def __call__(self, share: float) -> str:
        """`0:12 left`, or an empty string where it is not known yet; `share` of the run is done."""
        now = time.perf_counter()
        if self._first is None:
            self._first = now, share
        since, first = self._first
        left = (now - since) / (share - first) * (1 - share) if share > first else 0.0
        return f"{clock(left)} left" if left else ""
