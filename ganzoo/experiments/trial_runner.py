"""Runs trials with a launcher, and records the outcome of each that has ended."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.launcher import EndedJob, Job, Launcher, LaunchRequest, available_cores, threads_of_user
from ganzoo.contract.options import options_of
from ganzoo.contract.paths import absolute_path
from ganzoo.contract.recipe import KIND_OF_FIELD
from ganzoo.experiments.folder import Folder, State
from ganzoo.experiments.grid import Trial
from ganzoo.registry.zoo import Zoo
from ganzoo.training.signals import Signals

#: seconds between two looks at the running trials, and between two calls of `on_progress`
_POLL_SECONDS, _PROGRESS_SECONDS = 0.02, 0.1
#: exit codes of a process that was stopped from outside; other signals, such as a segmentation fault, are failures
_SIGNALS = [getattr(signal, name, None) for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGKILL")]  # not all on Windows
_STOPPED = (129, 130, 143, *(-number for number in _SIGNALS if number is not None))
#: the arguments of Python that run a trial
WORKER = ("-P", "-m", "ganzoo.experiments.worker")

#: called several times a second with the state of every trial by its name: done, failed, missing or running
ProgressCallback = Callable[[Mapping[str, str]], None]
#: called with a trial that has ended, and its state: done, failed, or missing if it was stopped and can be resumed
EndedCallback = Callable[[Trial, State], None]


class TrialRunner:
    """Runs trials in the folder of a benchmark, as often as `run` is called. A context manager.

    `jobs` is the number of trials at a time; None: the launcher decides. A trial that writes nothing for `patience`
    seconds has failed. `note` receives messages for the user. The folder must be held by this process (`Folder.taken`).
    """

    def __init__(
        self,
        zoo: Zoo,
        folder: Folder,
        launcher: Launcher,
        *,
        device: str = "auto",
        jobs: int | None = None,
        patience: float = math.inf,
        note: Callable[[str], None] = print,
        worker: tuple[str, ...] = WORKER,
    ) -> None:
        self.zoo, self.folder, self.launcher, self.device, self.note = zoo, folder, launcher, device, note
        self.patience, self._worker = patience, worker
        cores, threads = available_cores(), threads_of_user()
        self._request = LaunchRequest(jobs, device, folder.path.resolve(), threads, cores, note)
        self._threads = 1
        #: number of the signal that ended `run`; 0 where none did
        self.signal = 0
        #: by the name of a trial: itself, and the size of its log before its worker was started
        self._running: dict[str, tuple[Trial, int]] = {}
        #: by the name of a trial: why it could not be started
        self.refused: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self._threads = self.launcher.open(self._request)
        except BaseException:
            self.launcher.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.launcher.close()  # workers are left only after a second Ctrl-C, or after an error

    def run(
        self,
        trials: Iterable[Trial],
        on_ended: EndedCallback = lambda trial, state: None,
        on_progress: ProgressCallback = lambda states: None,
    ) -> None:
        """Run these trials to their end, whatever their state is; returns when none is running any more.

        `trials` may be a generator: the next one is asked for when it can be started. After a signal no more are
        started, the running ones save and end, and `signal` is its number. `on_progress` gets the running trials.
        """
        waiting = iter(trials)
        more, stopping, told = True, False, 0.0
        with Signals().installed() as signals:
            while more or self._running:
                more = more and not signals.number and self._start_ready(waiting, signals)
                if signals.number and not stopping:
                    stopping, more, self.signal = True, False, signals.number
                    for name in self._running:
                        self.launcher.stop(name)
                for ended in self.launcher.ended():
                    trial, offset = self._running.pop(ended.name)
                    on_ended(trial, self._record(trial, ended, offset))
                if (now := time.monotonic()) - told >= _PROGRESS_SECONDS:
                    told = now
                    on_progress(dict.fromkeys(self._running, "running"))
                time.sleep(_POLL_SECONDS if self._running else 0)

    def stop(self, trial: Trial) -> None:
        """Ask a running trial to save and end; does not wait. Its state will be missing, if it has not finished."""
        if trial.name in self._running:
            self.launcher.stop(trial.name)

    def _start_ready(self, waiting: Iterator[Trial], signals: Signals) -> bool:
        """Start trials until the launcher takes no more; returns whether there are more."""
        while self.launcher.ready() and not signals.number:
            trial = next(waiting, None)
            if trial is None:
                return False
            self._start(trial)
        return True

    def _start(self, trial: Trial) -> None:
        job = self.job(trial)
        try:
            offset = self.folder.log(trial).stat().st_size
        except OSError:
            offset = 0
        try:
            self.launcher.start(job)
        except (GanzooError, OSError) as error:
            self.refused[trial.name] = str(error)
            self.note(f"{trial.name}: not started: {error}")
            return
        self._running[trial.name] = trial, offset

    def job(self, trial: Trial) -> Job:
        """The job of a trial; its request is written into the folder."""
        threads = self.folder.write_request(trial, self.device, self._threads)
        names = self.folder.status_dir(trial), self.folder.run(trial)
        files = tuple(path.relative_to(self.folder.path).as_posix() for path in names)
        variables = {name: value for name, value in os.environ.items() if name.startswith("GANZOO_")}
        return Job(
            name=trial.name,
            arguments=(*self._worker, f"{{folder}}/{files[0]}", "{parent}"),
            folder=self._request.folder,
            files=files,
            log=self.folder.log(trial).relative_to(self.folder.path).as_posix(),
            threads=threads,
            device=self.device,
            patience=self.patience,
            environment={**variables, "OMP_NUM_THREADS": str(threads)},
            inputs=_inputs(self.zoo, trial),
        )

    def _record(self, trial: Trial, ended: EndedJob, offset: int) -> State:
        """Record the outcome of a trial: done if it has a result, failed if there is a reason, or else missing."""
        state = self.folder.state(trial)
        if state != "missing":
            return state
        reason = self._reason(trial, ended, offset)
        if ended.exit_code is None or (ended.exit_code in _STOPPED and not ended.reason):
            self.folder.note_stop(trial, reason, ended.exit_code)
            return "missing"
        self.folder.fail(trial, reason, ended.exit_code)
        return "failed"

    def _reason(self, trial: Trial, ended: EndedJob, offset: int) -> str:
        code = ended.exit_code
        if ended.reason or code is None:
            return ended.reason or "Its worker was lost."
        if code < 0:
            return f"Its process was ended by {signal.Signals(-code).name}."
        if code == 0:
            return "Its process ended without the requested scores."
        if code in _STOPPED:
            return f"Its process was stopped by {signal.Signals(code - 128).name}."
        with open(self.folder.log(trial), encoding="utf-8", errors="replace") as log:
            log.seek(offset)
            lines = [line.strip() for line in log.read().splitlines() if line.strip()]
        if not lines:
            return f"Its process ended with exit code {code} and without a message."
        return lines[-1].removeprefix("Error: ")[:500]


def _inputs(zoo: Zoo, trial: Trial) -> dict[str, str]:
    """The files and folders that a trial reads beside its own: path -> sha256 of a file with code, else empty."""
    found: dict[str, str] = {}
    for field, kind in KIND_OF_FIELD.items():
        value = getattr(trial.recipe, field)
        for choice in filter(None, value if isinstance(value, tuple) else (value,)):
            if choice.is_location:
                facts: dict[str, Any] = zoo.provenance(kind, choice)
                path = absolute_path(choice.name.rpartition(":")[0])
                found[str(path)] = facts["sha256"]
                found |= {str(path.parent / name): digest for name, digest in facts.get("imports", {}).items()}
            for option in options_of(zoo.load(kind, choice)).values():
                given = choice.options.get(option.name)
                if isinstance(option.type, click.Path) and given and Path(given).is_absolute():
                    found[str(given)] = ""
    return found
