"""Watch a run that another process trains, with the display that its own process has."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.api.displays import ConsoleProgress
from ganzoo.api.notebook_display import NotebookProgress
from ganzoo.api.progress import in_notebook
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.recipe import Recipe

if TYPE_CHECKING:
    from ganzoo.api.trained_run import TrainedRun

#: seconds between two looks at the files
_INTERVAL = 0.5


class _Watched:
    """The run as observers see it, read from its files without torch."""

    def __init__(self, path: Path) -> None:
        from ganzoo.storage.run_checks import read_recipe

        self.path = path
        self.recipe: Recipe = read_recipe(path)

    @property
    def environment(self) -> dict[str, Any]:
        from ganzoo.storage.run_checks import read_environment

        return read_environment(self.path / "environment.json")

    def lines(self, name: str) -> list[dict[str, Any]]:
        from ganzoo.storage.lines import read_lines

        return read_lines(self.path / name)


class _Follower:
    """Calls the hooks of a display for what is new in the files of a run."""

    def __init__(self, run: _Watched, display: ConsoleProgress | NotebookProgress) -> None:
        self.run, self.display = run, display
        self._step = -1
        self._scored = -1
        self._grid = self._checkpoint = -1

    def begin(self, last: Mapping[str, Any], scores: list[dict[str, Any]]) -> None:
        """Show how far the run is, without what happened before."""
        self.display.on_run_start(self.run)
        self._scored = max((line["step"] for line in scores), default=-1)
        if scores and isinstance(self.display, ConsoleProgress):
            self.display.remember(self.run, [line for line in scores if line["step"] == self._scored])
        self._checkpoint = _newest(self.run.path / "checkpoints", "")
        if last:
            self._tick(dict(last))

    def look(self) -> None:
        """Show what is new."""
        from ganzoo.storage.lines import read_last_lines

        path = self.run.path
        for line in read_last_lines(path / "stats.jsonl"):
            if line["step"] > self._step:
                self._tick(line)
        progress = self.progress
        if (newest := _newest(path / "samples", ".png")) > self._grid:
            self._grid = newest
            self.display.on_samples(self.run, progress, path / "samples" / f"{newest:09d}.png")
        scores = [line for line in read_last_lines(path / "scores.jsonl") if line["step"] > self._scored]
        for step in sorted({line["step"] for line in scores}):
            self._scored = step
            self.display.on_score(self.run, progress, [line for line in scores if line["step"] == step])
        if (newest := _newest(path / "checkpoints", "")) > self._checkpoint:
            self._checkpoint = newest
            self.display.on_checkpoint(self.run, progress, path / "checkpoints" / f"{newest:09d}")

    def _tick(self, line: dict[str, Any]) -> None:
        self._step = line["step"]
        self.progress = TrainingProgress(line["step"], line["images"], line.get("epoch", 0.0))
        self.display.on_tick(self.run, self.progress, line)

    progress = TrainingProgress(0, 0, 0.0)


def _newest(folder: Path, suffix: str) -> int:
    """The highest number of images in the names of a folder; -1 without one."""
    names = [path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}")] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=-1)


def watch(run: str | Path | TrainedRun, *, verbose: bool = False) -> str:
    """Follow a run that another process trains, until that process ends; nothing of the run is changed.

    The display is that of the training itself: its position, time left, losses, scores, and sample grids where they can
    be shown. Returns the state of the run then: finished, interrupted, diverged or damaged. Raises UsageError where
    there is no run.
    """
    from ganzoo.results.runs import run_facts
    from ganzoo.storage.lines import read_last_lines
    from ganzoo.storage.lock import writer

    path = Path(run) if isinstance(run, str | Path) else run.path
    watched = _Watched(path)
    last = (read_last_lines(path / "stats.jsonl") or [{}])[-1]
    display = NotebookProgress(verbose) if in_notebook() else ConsoleProgress(verbose, last.get("seconds", 0.0))
    follower = _Follower(watched, display)
    follower.begin(last, read_last_lines(path / "scores.jsonl"))
    error: BaseException | None = None
    try:
        trained = True
        while trained:
            trained = writer(path) is not None  # asked first: what was written until it ended is still shown
            follower.look()
            if trained:
                time.sleep(_INTERVAL)
    except BaseException as stopped:
        error = stopped
        raise
    finally:
        display.on_run_end(watched, error)
    return str(run_facts(path)["state"])
