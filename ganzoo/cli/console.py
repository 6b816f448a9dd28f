"""Console: the run as a person sees it: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.cli.output import log
from ganzoo.contract.choice import Amount
from ganzoo.contract.hooks import TrainingProgress, hookimpl

if TYPE_CHECKING:
    from ganzoo.storage.run import Run

#: seconds between plain lines
_PLAIN_INTERVAL = 10.0


def _share(length: Amount, progress: TrainingProgress) -> float:
    position = length.count_of(progress.step, progress.images, progress.epochs)
    return min(1.0, position / length.count)


def _losses(scalars: dict[str, Any]) -> str:
    short = {"discriminator_loss": "D", "generator_loss": "G", "discriminator_accuracy": "accuracy"}
    return "  ".join(f"{short[name]} {scalars[name]:.4f}" for name in short if name in scalars)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Console:
    """An observer on stderr: epoch, images/s, losses, time left."""

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        self._live: Any = None
        self._task: Any = None
        self._said = 0.0
        self._started: tuple[float, float] | None = None
        self._last = ""

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Open the live line."""
        if not sys.stderr.isatty():
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = ("{task.fields[where]}", BarColumn(bar_width=24), "{task.percentage:>3.0f}%", "{task.fields[losses]}")
        self._live = Progress(
            *(TextColumn(column) if isinstance(column, str) else column for column in columns),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=RichConsole(stderr=True),
            transient=True,
        )
        self._task = self._live.add_task("", total=1.0, where="starting", losses="")
        self._live.start()

    @hookimpl
    def on_tick(self, run: Run, progress: TrainingProgress, scalars: dict[str, Any]) -> None:
        """Say where the run stands."""
        share = _share(run.recipe.length, progress)
        if self._started is None:
            self._started = (time.perf_counter(), share)
        speed = f"{scalars['images_per_second']:.0f} images/s"
        where = f"epoch {progress.epochs:.2f}" if run.recipe.length.unit != "steps" else f"step {progress.step}"
        self._last = f"{where}  {_losses(scalars)}  {speed}"
        if self._live is not None:
            self._live.update(self._task, completed=share, where=where, losses=f"{_losses(scalars)}  {speed}")
            return
        now = time.perf_counter()
        if now - self._said >= _PLAIN_INTERVAL or share == 1.0:
            self._said = now
            since, first = self._started
            left = (now - since) / (share - first) * (1 - share) if share > first else 0.0
            log(f"{run.path}: {self._last}  {share:.0%}" + (f"  {_clock(left)} left" if left else ""))

    @hookimpl
    def on_samples(self, run: Run, progress: TrainingProgress, path: Path) -> None:
        """Name the grid, when asked to talk much."""
        if self.verbose:
            self._say(f"samples {path}")

    @hookimpl
    def on_score(self, run: Run, progress: TrainingProgress, scores: list[dict[str, Any]]) -> None:
        """Say how good the generator is."""
        self._say(f"{run.path}: " + "  ".join(f"{line['score']} {line['value']:.4f}" for line in scores))

    @hookimpl
    def on_checkpoint(self, run: Run, progress: TrainingProgress, path: Path) -> None:
        """Name the checkpoint, when asked to talk much."""
        if self.verbose:
            self._say(f"checkpoint {path}")

    @hookimpl
    def on_run_end(self, run: Run, error: BaseException | None) -> None:
        """Close the live line and leave the last word."""
        if self._live is not None:
            self._live.stop()
            log(f"{run.path}: {self._last}")

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text)
        else:
            log(text)
