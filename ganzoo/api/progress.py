"""Messages to the user, and the words that say how far something is and how long it takes."""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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

    It is called with the number of images that are done, with the number that there are, and with what is done with
    them. Without a number only the time is shown.
    """

    def __init__(self, what: str, show: Callable[[str], None] = log) -> None:
        self.what = what
        self._show = show
        self._state = (0, 0, "")
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="ganzoo-waiting")

    def __call__(self, done: int, total: int, doing: str = "") -> None:
        """Note that `done` of `total` images are done. With 0 the estimate of the remaining time begins again."""
        if done == 0:
            self._started = time.monotonic()
        self._state = done, total, doing

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
            done, total, doing = self._state
            words = [f"{self.what}{', ' * bool(doing)}{doing}: {clock(now - began)}"]
            if done and total:
                words.append(f"{done:,} of {total:,} images")
            if 0 < done < total:
                left = (now - self._started) / done * (total - done)
                words.append(f"about {clock(max(1.0, left))} left")
            self._show(", ".join(words))


def share_done(length: Amount, progress: TrainingProgress) -> float:
    """How much of the run's length is done, from 0 to 1."""
    position = length.count_of(progress.step, progress.images, progress.epochs)
    return min(1.0, position / length.count)


def position(length: Amount, progress: TrainingProgress) -> str:
    """The epoch, or the step of a run whose length is in steps."""
    return f"epoch {progress.epochs:.2f}" if length.unit != "steps" else f"step {progress.step}"


def losses(scalars: dict[str, Any]) -> list[str]:
    """The losses of a tick, and its accuracy, in short."""
    short = {"discriminator_loss": "D", "generator_loss": "G"}
    words = ["  ".join(f"{short[name]} {scalars[name]:.4f}" for name in short if name in scalars)]
    accuracy = scalars.get("discriminator_accuracy")
    return words if accuracy is None else [*words, f"accuracy {accuracy:.4f}"]


def speed(scalars: dict[str, Any]) -> str:
    """The images per second of a tick."""
    return f"{scalars['images_per_second']:,.0f} images/s"


def scores_in_words(scores: Sequence[Mapping[str, Any]]) -> str:
    """Scores in short, `fid 12.34  recall 0.5`."""
    return "  ".join(f"{line['score']} {line['value']:.4g}" for line in scores)


def fitting(begin: str, words: Sequence[str], columns: int, most_lines: int = 1) -> list[str]:
    """Lines of at most so many columns: `begin`, and those of the words that fit behind it, two spaces apart."""
    lines = [begin]
    for word in filter(None, words):
        if len(lines[-1]) + 2 + len(word) <= columns:
            lines[-1] += f"  {word}"
        elif len(lines) < most_lines and 2 + len(word) <= columns:
            lines.append(f"  {word}")
    return lines


def clock(seconds: float) -> str:
    """A time as `0:42` or `1:02:03`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def duration(seconds: float) -> str:
    """A time as `42 s`, `12 min` or `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class TimeLeft:
    """The time that a run still needs, at the speed it had since it was first asked.

    With `elapsed`, it is the speed since the run began, so many seconds ago.
    """

    def __init__(self, elapsed: float = 0.0) -> None:
        self._first = (time.perf_counter() - elapsed, 0.0) if elapsed else None

    def __call__(self, share: float) -> str:
        """`0:12 left`, or an empty string where it is not known yet; `share` of the run is done."""
        left = self.seconds(share)
        return f"{clock(left)} left" if left else ""

    def seconds(self, share: float) -> float | None:
        """The seconds left; None where they are not known yet."""
        now = time.perf_counter()
        if self._first is None:
            self._first = now, share
        since, first = self._first
        return (now - since) / (share - first) * (1 - share) if share > first else None

    @property
    def measured(self) -> float:
        """The seconds over which the speed is measured."""
        return time.perf_counter() - self._first[0] if self._first else 0.0
