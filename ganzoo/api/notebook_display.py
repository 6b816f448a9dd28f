"""The progress of a training below a cell of a notebook."""

from __future__ import annotations

import base64
import html
import time
from pathlib import Path
from typing import Any

from ganzoo.api.progress import TimeLeft, log, losses, position, scores_in_words, share_done, speed
from ganzoo.contract.choice import Amount, short_name
from ganzoo.contract.hooks import TrainingProgress, hookimpl
from ganzoo.contract.run_view import RunView

#: seconds between two updates of a notebook's display
_NOTEBOOK_INTERVAL = 0.25


class NotebookProgress:
    """An observer that shows a progress bar, the losses, the scores and the newest sample grid below a notebook's cell.

    The display is one output, updated in place. A frontend that shows text only gets the same facts as one line.
    """

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        self._handle: Any = None
        self._drawn = 0.0
        self._left = TimeLeft()
        self._share = 0.0
        self._where, self._facts, self._scores, self._state = "starting", "", "", ""
        self._grid: Path | None = None
        self._run: RunView | None = None

    @hookimpl
    def on_run_start(self, run: RunView) -> None:
        """Open the display."""
        self._run = run
        self._draw(run, at_once=True)

    def on_heartbeat(self, progress: TrainingProgress, doing: str = "") -> None:
        """Show how far the training is, and what it is `doing` where that is not a step."""
        if self._run is not None:
            self._move(self._run.recipe.length, progress, doing)
            self._draw(self._run)

    @hookimpl
    def on_tick(self, run: RunView, progress: TrainingProgress, scalars: dict[str, Any]) -> None:
        """Update the bar, the losses and the time left."""
        self._facts = "  ".join([speed(scalars), *losses(scalars)])
        self._move(run.recipe.length, progress)
        self._draw(run)

    @hookimpl
    def on_samples(self, run: RunView, progress: TrainingProgress, path: Path) -> None:
        """Show the sample grid."""
        self._grid = path
        if self.verbose:
            log(f"samples {path}")
        self._draw(run)

    @hookimpl
    def on_score(self, run: RunView, progress: TrainingProgress, scores: list[dict[str, Any]]) -> None:
        """Show the scores."""
        self._scores = scores_in_words(scores)
        self._draw(run)

    @hookimpl
    def on_checkpoint(self, run: RunView, progress: TrainingProgress, path: Path) -> None:
        """Name the checkpoint, if verbose."""
        if self.verbose:
            log(f"checkpoint {path}")

    @hookimpl
    def on_run_end(self, run: RunView, error: BaseException | None) -> None:
        """Leave the last state on display."""
        self._state = "finished" if error is None else "stopped"
        self._draw(run, at_once=True)

    def _move(self, length: Amount, progress: TrainingProgress, doing: str = "") -> None:
        self._share = share_done(length, progress)
        self._where = (
            f"{position(length, progress)} of {length.count:,}"
            if length.unit != "images"
            else f"{progress.images:,} of {length.count:,} images"
        )
        self._state = "  ".join(filter(None, (doing, self._left(self._share))))

    def _draw(self, run: RunView, at_once: bool = False) -> None:
        from IPython.display import display

        now = time.perf_counter()
        if not at_once and now - self._drawn < _NOTEBOOK_INTERVAL:
            return
        self._drawn = now
        shown = {"text/plain": self._text(run), "text/html": self._html(run)}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown, raw=True)

    def _text(self, run: RunView) -> str:
        words = (str(run.path), self._where, f"{self._share:.0%}", self._facts, self._scores, self._state)
        return "  ".join(filter(None, words))

    def _html(self, run: RunView) -> str:
        title = " · ".join(short_name(part) for part in (run.recipe.architecture, run.recipe.dataset))
        facts = "  ·  ".join(filter(None, (self._facts, self._scores, self._state))).replace("  ", " ")
        colour = "#c4432b" if self._state == "stopped" else "#2f7d4f" if self._state == "finished" else "#3a74b8"
        picture = ""
        if self._grid is not None and self._grid.is_file():
            data = base64.b64encode(self._grid.read_bytes()).decode()
            picture = f'<img src="data:image/png;base64,{data}" style="max-width: 100%; margin: 8px 0 0">'
        return (
            f'<div style="max-width: 600px; font-size: 13px; line-height: 1.6">'
            f'<div style="display: flex; justify-content: space-between"><b>{html.escape(title)}</b>'
            f"<span>{html.escape(self._where)}</span></div>"
            f'<div style="height: 6px; border-radius: 3px; background: rgba(128, 128, 128, 0.25)">'
            f'<div style="height: 6px; border-radius: 3px; width: {self._share:.1%}; background: {colour}"></div></div>'
            f'<div style="opacity: 0.75; font-variant-numeric: tabular-nums">{html.escape(facts)}</div>{picture}</div>'
        )
