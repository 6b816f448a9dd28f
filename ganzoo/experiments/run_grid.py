"""Run a grid: start the missing trials with a launcher, and write the table as they end."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, counted
from ganzoo.contract.launcher import Launcher
from ganzoo.contract.protocol import Protocol
from ganzoo.evaluation.scorer import Scorer
from ganzoo.experiments import real_baseline, table
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial
from ganzoo.experiments.trial_runner import ProgressCallback, TrialRunner
from ganzoo.registry.source import PLUGIN_ERRORS, error_text
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import build_setup
from ganzoo.training.signals import Interrupted

#: runs trials on this machine
DEFAULT_LAUNCHER = Choice("local")
#: the table is written while trials run, but for no more than this share of the time
_TABLE_SHARE = 0.1


def benchmark(
    zoo: Zoo,
    trials: Sequence[Trial],
    out: Path,
    device: str = "auto",
    jobs: int | None = None,
    retry_failed: bool = False,
    scale: bool = False,
    patience: float = math.inf,
    launcher: Choice = DEFAULT_LAUNCHER,
    on_progress: ProgressCallback = lambda states: None,
    note: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Run the trials that have not finished in the folder `out`, and return the rows of the table.

    The table is also written to `out`. `launcher` runs the trials, each in a process of its own, `jobs` at a time
    (None: the launcher decides). A failed trial is counted in the table and does not stop the others; with
    `retry_failed` it runs again from the beginning. A trial that writes nothing for `patience` seconds has failed. With
    `scale` the rows also hold the scores of real images that are corrupted in known steps. `note` receives a message
    for the user after each trial. Raises Interrupted, with everything saved, after a signal.
    """
    folder, built = Folder(out), build_launcher(zoo, launcher)
    with folder.taken():
        for trial in trials:
            if retry_failed and folder.state(trial) == "failed":
                folder.forget(trial)
        grid = _Grid(zoo, trials, folder, note)
        grid.fail_misfits()
        grid.measure_real_images(device, scale)
        grid.write_table()
        if grid.missing:
            with TrialRunner(zoo, folder, built, device=device, jobs=jobs, patience=patience, note=note) as runner:
                grid.run_missing(runner, on_progress)
        return grid.rows


def build_launcher(zoo: Zoo, choice: Choice) -> Launcher:
    """The launcher that a choice names. Raises UsageError for an unknown name or option."""
    built: Launcher = zoo.build("launchers", choice)
    return built


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
                self.folder.fail(trial, reason)
                self.states[trial.name] = "failed"
                self.note(f"{trial.name}: {_outcome(self.folder, trial, 'failed')}")

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

    def run_missing(self, runner: TrialRunner, on_progress: ProgressCallback) -> None:
        """Run the missing trials. Raises Interrupted after a signal, and GanzooError where one could not be started."""
        written, seconds = time.monotonic(), 0.0

        def on_ended(trial: Trial, state: str) -> None:
            nonlocal written, seconds
            self.states[trial.name] = state
            self.note(f"{trial.name}: {_outcome(self.folder, trial, state)}")
            started = time.monotonic()
            if started - written >= seconds / _TABLE_SHARE:
                self.write_table()
                written = time.monotonic()
                seconds = written - started

        try:
            runner.run(self.missing, on_ended, lambda running: on_progress({**self.states, **running}))
        finally:
            self.write_table()
        on_progress(self.states)
        if runner.signal and self.missing:
            raise Interrupted(
                runner.signal,
                f"Stopped by {signal.Signals(runner.signal).name} with {len(self.missing)} of "
                f"{counted(len(self.trials), 'trial')} left to run; everything is saved in {self.folder.path}. "
                f"Continue with the same command.",
            )
        if runner.refused:
            reasons = list(dict.fromkeys(runner.refused.values()))
            raise GanzooError(
                f"{counted(len(runner.refused), 'trial')} could not be started: {' '.join(reasons[:3])} The others "
                "have ended; the same command runs the rest."
            )


def _outcome(folder: Folder, trial: Trial, state: str) -> str:
    result = folder.result(trial)
    if result is None:
        if state == "failed":
            return f"failed: {folder.reason(trial)}"
        return f"stopped; the same command resumes it. {folder.stop_reason(trial)}".rstrip()
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
