"""Shows the progress of a grid: a live table on a terminal, and one line for each trial elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ganzoo.api.progress import PLAIN_INTERVAL, Waiting, clock, share_done
from ganzoo.api.terminal import console, plain, table
from ganzoo.cli.output import log
from ganzoo.contract.errors import counted
from ganzoo.contract.hooks import TrainingProgress

if TYPE_CHECKING:
    from ganzoo.experiments.grid import Trial

#: seconds between two updates of the live table
_INTERVAL = 1.0


class GridConsole:
    """A live table of architectures and datasets on stderr if it is a terminal; otherwise only messages."""

    def __init__(self, trials: Sequence[Trial], out: Path) -> None:
        from ganzoo.experiments.folder import Folder

        self.folder = Folder(out)
        self.trials = trials
        self.configurations: dict[tuple[Any, ...], list[Trial]] = {}
        for trial in trials:
            self.configurations.setdefault(trial.configuration, []).append(trial)
        self._live: Any = None
        self._drawn = 0.0
        #: when each trial was first shown
        self._since: dict[str, float] = {}
        self._results: dict[str, Any] = {}
        self._preparing: Waiting | None = Waiting(
            "Preparing the grid: checks, and the scores of real images", self.message
        )

    def __enter__(self) -> Self:
        """Start the live table."""
        if sys.stderr.isatty():
            screen = console(stderr=True)
            from rich.live import Live

            self._live = Live(console=screen, auto_refresh=False, transient=True)
            self._live.start()
        if self._preparing is not None:
            self._preparing.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the live table."""
        self._prepared()
        if self._live is not None:
            self._live.stop()

    def message(self, text: str) -> None:
        """Print one line, above the live table if there is one."""
        if self._live is None:
            log(text)
        else:
            self._live.console.print(plain(text), soft_wrap=True)

    def on_progress(self, states: Mapping[str, str]) -> None:
        """Update the live table, or print a line now and then; `states` by the names of the trials."""
        self._prepared()
        if time.monotonic() - self._drawn < (PLAIN_INTERVAL if self._live is None else _INTERVAL):
            return
        self._drawn = time.monotonic()
        if self._live is not None:
            self._live.update(self._table(states), refresh=True)
        elif running := [trial for trial in self.trials if states[trial.name] == "running"]:
            done = sum(state in ("done", "failed") for state in states.values())
            now = ", ".join(f"{trial.name} {self._progress(trial)}" for trial in running)
            self.message(f"{done} of {counted(len(states), 'trial')} ended; running: {now}")

    def _prepared(self) -> None:
        """End the message about the preparation."""
        if self._preparing is not None:
            self._preparing.__exit__()
            self._preparing = None

    def _table(self, states: Mapping[str, str]) -> Any:
        from ganzoo.results.report.tables import axis_cells, axis_columns

        rows = []
        axes = axis_columns([{"row": trial.row, "axes": trial.axes} for trial in self.trials])
        for trials in self.configurations.values():
            first = trials[0]
            of_pair = [states[trial.name] for trial in trials]
            done = f"{of_pair.count('done')} of {len(trials)}"
            now = "  ".join(self._progress(trial) for trial in trials if states[trial.name] == "running")
            failed = str(of_pair.count("failed"))
            values = axis_cells({"row": first.row, "axes": first.axes}, axes)
            rows.append([first.architecture, first.dataset, *values, done, failed, self._score(trials, states), now])
        return table(["architecture", "dataset", *axes, "done", "failed", "score so far", "now"], rows)

    def _score(self, trials: Sequence[Trial], states: Mapping[str, str]) -> str:
        """The mean of the first score over the finished trials that were measured like the first of them."""
        found = [result for trial in trials if states[trial.name] == "done" and (result := self._result(trial))]
        if not found:
            return ""
        name = next(iter(found[0].last))
        lines = [result.last[name] for result in found]
        values = [line["value"] for line in lines if line["card"]["digest"] == lines[0]["card"]["digest"]]
        return f"{name} {sum(values) / len(values):.4g}"

    def _result(self, trial: Trial) -> Any:
        if trial.name not in self._results:
            self._results[trial.name] = self.folder.result(trial)
        return self._results[trial.name]

    def _progress(self, trial: Trial) -> str:
        line, now = self.folder.progress(trial), time.monotonic()
        since = self._since.setdefault(trial.name, now)
        if not line:  # before its first statistics
            return f"seed {trial.recipe.seed}: starting, {clock(now - since)}"
        share = share_done(trial.recipe.length, TrainingProgress(line["step"], line["images"], line["epoch"]))
        # the time to score is not in it: how long that takes is not known before the first score
        left = f", about {clock(line['seconds'] / share * (1 - share))} left" if share and "seconds" in line else ""
        return f"seed {trial.recipe.seed}: {share:.0%}, {line['images_per_second']:.0f} images/s{left}"
