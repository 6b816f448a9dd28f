"""The progress of a training: a live line on a terminal, plain lines in a log file. Notebooks: `notebook_display`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganzoo.api.notebook_display import NotebookProgress
from ganzoo.api.progress import (
    PLAIN_INTERVAL,
    TimeLeft,
    duration,
    fitting,
    in_notebook,
    log,
    losses,
    position,
    scores_in_words,
    share_done,
    speed,
)
from ganzoo.api.terminal import console, plain
from ganzoo.api.terminal_pictures import picture_protocol, picture_text, terminal_size
from ganzoo.contract.choice import Amount
from ganzoo.contract.hooks import TrainingProgress, hookimpl
from ganzoo.contract.run_view import RunView

#: columns of the bar on a terminal, and lines of the live display at most
_BAR_WIDTH, _LIVE_LINES = 8, 2
#: seconds between two pictures in a terminal
PICTURE_INTERVAL = 10.0
#: seconds between two plain lines at sample grids
_MEANS_INTERVAL = 1.0
#: seconds of training before its whole time is announced, and seconds from which on it is
_MEASURED, _LONG = 5.0, 60.0


def progress_observers(quiet: bool = False, verbose: bool = False) -> dict[str, object]:
    """Observers that show the progress of one run, by name. With `verbose` they name every file that is written."""
    if quiet:
        return {}
    return {"progress": NotebookProgress(verbose) if in_notebook() else ConsoleProgress(verbose)}


class ConsoleProgress:
    """An observer that prints on stderr: what is done, how long it takes, the losses and the last score.

    On a terminal it is a live line, two in a narrow one, and the sample grids where the terminal can show pictures;
    elsewhere a plain line every ten seconds. `on_heartbeat` is called about once a second between the hooks, so that a
    wait of more than two seconds is never silent. `elapsed` is how many seconds ago the run began, where that is not
    now.
    """

    def __init__(self, verbose: bool = False, elapsed: float = 0.0) -> None:
        self.verbose = verbose
        self._live: Any = None
        self._path = ""
        self._length: Amount | None = None
        self._printed = 0.0
        self._left = TimeLeft(elapsed)
        self._announced = bool(elapsed)
        self._where, self._facts, self._share = "starting", [""], 0.0
        self._score = ""
        self._protocol = picture_protocol(sys.stderr)
        #: the newest grid that is not shown yet, and when one was shown
        self._grid: Path | None = None
        self._shown = -PICTURE_INTERVAL

    def open(self) -> None:
        """Open the live line, on a terminal."""
        if not sys.stderr.isatty():
            return
        screen = console(stderr=True)
        from rich.live import Live

        self._live = Live(console=screen, auto_refresh=False, transient=True)
        self._live.start()

    def close(self) -> None:
        """Close the live line."""
        if self._live is not None:
            self._live.stop()

    def show(self, text: str) -> None:
        """Print one line, above the live line if there is one."""
        if self._live is not None:
            self._live.console.print(plain(text), soft_wrap=True)
        else:
            log(text)

    @hookimpl
    def on_run_start(self, run: RunView) -> None:
        """Open the live line."""
        self._path, self._length = str(run.path), run.recipe.length
        self.open()

    def on_heartbeat(self, progress: TrainingProgress, doing: str = "") -> None:
        """Show how far the training is, and what it is `doing` where that is not a step."""
        if self._length is None:
            return
        self._share = share_done(self._length, progress)
        self._where = position(self._length, progress)
        self._draw([doing] if doing else self._facts)
        if not doing:
            self._announce(progress)

    @hookimpl
    def on_tick(self, run: RunView, progress: TrainingProgress, scalars: dict[str, Any]) -> None:
        """Update the live line, or print a plain line now and then."""
        self._share = share_done(run.recipe.length, progress)
        self._facts = [speed(scalars), *losses(scalars)]
        self._where = position(run.recipe.length, progress)
        self._draw(self._facts, at_once=self._share == 1.0)

    def on_means(self, progress: TrainingProgress, scalars: dict[str, float]) -> None:
        """Show the means since the last tick, at a sample grid: a short training has few ticks, or none."""
        if self._length is None:
            return
        self._share = share_done(self._length, progress)
        self._facts, self._where = losses(scalars), position(self._length, progress)
        self._draw(self._facts, at_once=time.perf_counter() - self._printed >= _MEANS_INTERVAL)

    def _draw(self, facts: list[str], at_once: bool = False) -> None:
        left = self._left(self._share)
        if self._live is not None:
            self._live.update(self._live_lines([left, *facts, self._score]), refresh=True)
            return
        now = time.perf_counter()
        if now - self._printed >= PLAIN_INTERVAL or at_once:
            self._printed = now
            words = [f"{self._path}: {self._where}", *facts, self._score, f"{self._share:.0%}", left]
            log("  ".join(filter(None, words)))

    def _live_lines(self, words: list[str]) -> Any:
        """The position, a bar, and the words that fit on two lines; the first ones are the most important."""
        from rich.text import Text

        screen = self._live.console
        done, rest = ("#", "-") if screen.options.ascii_only else ("━", "─")
        filled = max(1, round(self._share * _BAR_WIDTH))
        bar = done * filled + rest * (_BAR_WIDTH - filled)
        lines = fitting(plain(f"{self._where}  {bar} {self._share:4.0%}"), words, screen.width, _LIVE_LINES)
        text = Text("\n".join(lines), no_wrap=True, overflow="crop")
        start = len(plain(self._where)) + 2
        text.stylize("cyan", start, start + filled)
        text.stylize("dim", start + filled, start + _BAR_WIDTH)
        return text

    def _announce(self, progress: TrainingProgress) -> None:
        """Say once how long the whole training takes, where that is more than a minute."""
        left = self._left.seconds(self._share)
        if self._announced or left is None or self._left.measured < _MEASURED:
            return
        self._announced = True
        if left >= _LONG:
            self.show(f"About {duration(left)} to go, at the speed of the steps up to step {progress.step:,}.")

    @hookimpl
    def on_samples(self, run: RunView, progress: TrainingProgress, path: Path) -> None:
        """Show the sample grid where the terminal can; name it, if verbose."""
        if self.verbose:
            self.show(f"samples {path}")
        self._grid = path
        if time.perf_counter() - self._shown >= PICTURE_INTERVAL:
            self._show_grid()

    def _show_grid(self) -> None:
        """Write the newest grid above the live line, if it is not shown yet."""
        if self._protocol is None or self._live is None or self._grid is None:
            return
        path, self._grid, self._shown = self._grid, None, time.perf_counter()
        stream = self._live.console.file
        try:
            picture = picture_text(path, self._protocol, terminal_size(stream))
        except (OSError, ValueError) as error:  # a picture is not worth a training
            self._protocol = None
            return self.show(f"No more pictures: {path} cannot be shown ({error}).")
        self._live.stop()
        stream.write(f"{self._where}\n{picture}\n")
        stream.flush()
        self._live.start()

    @hookimpl
    def on_score(self, run: RunView, progress: TrainingProgress, scores: list[dict[str, Any]]) -> None:
        """Print the scores, and keep the one that the best checkpoint is chosen by."""
        self.remember(run, scores)
        self.show(f"{run.path}: " + "  ".join(f"{line['score']} {line['value']:.4f}" for line in scores))
        if self._live is not None:
            self._draw(self._facts)

    def remember(self, run: RunView, scores: Sequence[Mapping[str, Any]]) -> None:
        """Show the last of these scores from now on; of several that of the recipe's `best_by`."""
        chosen = [line for line in scores if line["score"] == run.recipe.best_by] or scores
        self._score = scores_in_words(chosen[:1])

    @hookimpl
    def on_checkpoint(self, run: RunView, progress: TrainingProgress, path: Path) -> None:
        """Name the checkpoint, if verbose."""
        if self.verbose:
            self.show(f"checkpoint {path}")

    @hookimpl
    def on_run_end(self, run: RunView, error: BaseException | None) -> None:
        """Show the last grid, close the live line and print its last state."""
        if self._live is not None:
            self._show_grid()
            self.close()
            log("  ".join(filter(None, [f"{run.path}: {self._where}", *self._facts, self._score])))
