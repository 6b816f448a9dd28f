"""Run a grid: start the missing trials, up to `jobs` at a time, and write the table after each."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.errors import counted
from ganzoo.contract.protocol import Protocol
from ganzoo.evaluation.scorer import Scorer
from ganzoo.experiments import real_baseline, table
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial
from ganzoo.experiments.launchers import LocalLauncher
from ganzoo.registry.source import PLUGIN_ERRORS, error_text
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import build_setup
from ganzoo.training.signals import Interrupted, Signals

#: seconds between two checks of the running trials
_POLL_SECONDS = 0.1

#: called several times a second with the state of every trial by its name: done, failed, missing or running
ProgressCallback = Callable[[Mapping[str, str]], None]


def benchmark(
    zoo: Zoo,
    trials: Sequence[Trial],
    out: Path,
    device: str = "auto",
    jobs: int = 1,
    retry_failed: bool = False,
    scale: bool = False,
    patience: float = math.inf,
    on_progress: ProgressCallback = lambda states: None,
    note: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Run the trials that have not finished in the folder `out`, and return the rows of the table.

    The table is also written to `out`. `jobs` trials run at a time, each in a process of its own. A failed trial is
    counted in the table and does not stop the others; with `retry_failed` it runs again from the beginning. A trial
    that writes nothing for `patience` seconds has failed. With `scale` the rows also hold the scores of real images
    that are corrupted in known steps. `note` receives a message for the user after each trial. Raises Interrupted, with
    everything saved, after a signal.
    """
    folder = Folder(out)
    with folder.taken():
        for trial in trials:
            if retry_failed and folder.state(trial) == "failed":
                folder.forget(trial)
        grid = _Grid(zoo, trials, folder, note)
        grid.fail_misfits()
        grid.measure_real_images(device, scale)
        grid.write_table()
        grid.run_missing(LocalLauncher(folder, device, jobs, patience), on_progress)
        return grid.rows


class _Grid:
    """The trials of a grid, the state of each, and the table."""

    def __init__(self, zoo: Zoo, trials: Sequence[Trial], folder: Folder, note: Callable[[str], None]) -> None:
        self.zoo, self.trials, self.folder, self.note = zoo, trials, folder, note
        self.states: dict[str, str] = {trial.name: folder.state(trial) for trial in trials}
        #: by dataset
        self.real_scores: dict[str, real_baseline.RealScores] = {}
        self.rows: list[dict[str, Any]] = []

    @property
    def missing(self) -> list[Trial]:
        """Trials that have neither finished nor failed and are not running."""
        return [trial for trial in self.trials if self.states[trial.name] == "missing"]

    def fail_misfits(self) -> None:
        """Fail the trials whose parts do not fit together or cannot be scored, before anything is trained."""
        checked: dict[Any, str] = {}
        for trial in self.missing:
            for key, check in ((trial.configuration, misfit), (trial.dataset, unscorable)):
                if key not in checked:
                    checked[key] = check(self.zoo, trial)
            if reason := checked[trial.configuration] or checked[trial.dataset]:
                self._record_outcome(trial, reason)

    def measure_real_images(self, device: str, scale: bool) -> None:
        """Score the real images of the other split of each dataset: the real baseline of its rows."""
        for trial in self.trials:
            if trial.dataset not in self.real_scores and self.states[trial.name] != "failed":
                scores = real_baseline.measure_real_images(self.zoo, trial, device, scale, self.note)
                self.real_scores[trial.dataset] = scores

    def write_table(self) -> None:
        """Compute the rows from all results so far, and write the table."""
        self.rows = table.rows_of(self.trials, self.folder, self.real_scores)
        table.write(self.rows, self.folder.path)

    def run_missing(self, launcher: LocalLauncher, on_progress: ProgressCallback) -> None:
        """Run the missing trials. Raises Interrupted after a signal, when all processes have ended."""
        waiting = self.missing
        with Signals().installed() as signals:
            stopping = False
            try:
                while launcher.running or (waiting and not signals.number):
                    while waiting and launcher.free and not signals.number:
                        trial = waiting.pop(0)
                        launcher.start(trial)
                        self.states[trial.name] = "running"
                    if signals.number and not stopping:
                        stopping = True
                        launcher.stop()
                    for ended in launcher.collect():
                        self._record_outcome(ended.trial, ended.reason, ended.exit_code)
                        self.write_table()
                    on_progress(self.states)
                    time.sleep(_POLL_SECONDS if launcher.running else 0)
            finally:
                launcher.kill()  # processes are left only after a second Ctrl-C
        if signals.number and self.missing:
            raise Interrupted(
                signals.number,
                f"Stopped by {signal.Signals(signals.number).name} with {len(self.missing)} of "
                f"{counted(len(self.trials), 'trial')} left to run; everything is saved in {self.folder.path}. "
                f"Continue with the same command.",
            )

    def _record_outcome(self, trial: Trial, reason: str, exit_code: int | None = None) -> None:
        """Record the state of a trial: done if it has a result, failed if there is a reason, or else missing."""
        state = self.folder.state(trial)
        if state == "missing" and reason:
            self.folder.fail(trial, reason, exit_code)
            state = "failed"
        self.states[trial.name] = state
        self.note(f"{trial.name}: {_outcome(self.folder, trial, state)}")


def _outcome(folder: Folder, trial: Trial, state: str) -> str:
    result = folder.result(trial)
    if result is None:
        return f"failed: {folder.reason(trial)}" if state == "failed" else "stopped; the same command resumes it"
    scores = "  ".join(f"{name} {line['value']:.4g}" for name, line in result.last.items())
    return f"done in {result.seconds:.0f} s: {scores}"


def misfit(zoo: Zoo, trial: Trial) -> str:
    """Why the parts of a trial do not fit together; empty if they do."""
    try:
        build_setup(trial.recipe, zoo, torch.device("cpu"))
    except PLUGIN_ERRORS as error:
        return error_text(error)
    return ""


def unscorable(zoo: Zoo, trial: Trial) -> str:
    """Why generators cannot be scored on the dataset of a trial; empty if they can."""
    recipe, protocol = trial.recipe, Protocol.named(trial.recipe.protocol)
    try:
        Scorer(zoo, trial.data, recipe.evaluators, torch.device("cpu"), protocol, recipe.score_samples or None)
    except PLUGIN_ERRORS as error:
        return error_text(error)
    return ""
