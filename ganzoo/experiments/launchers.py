"""Runs trials on this machine, each in a process of its own.

A launcher starts trials, reports which of them have ended and why, and stops them. `run_grid` decides which trials
run, and records the outcome of those that have ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial

#: longest time in seconds between two checks of what a process has written
_HANG_CHECK_SECONDS = 60.0
#: exit codes of a process that was stopped from outside; other signals, such as a segmentation fault, are failures
_SIGNALS = [getattr(signal, name, None) for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGKILL")]  # not all on Windows
_STOPPED = (129, 130, 143, *(-number for number in _SIGNALS if number is not None))


@dataclass
class RunningTrial:
    """A trial and its process."""

    trial: Trial
    process: subprocess.Popen[bytes]
    #: size of the log in bytes before the process was started
    log_offset: int
    #: time of the last check of its files, by time.monotonic, which stops while the machine sleeps
    last_check: float = field(default_factory=time.monotonic)
    #: time of the first check that found no file newer than `newest_write`
    unchanged_since: float = field(default_factory=time.monotonic)
    #: modification time of the newest file of the run
    newest_write: float = 0.0
    hung: bool = False


@dataclass(frozen=True)
class EndedTrial:
    """A trial whose process has ended, with or without its scores."""

    trial: Trial
    exit_code: int
    #: why it failed if it has no scores; empty if it was stopped from outside and can be resumed
    reason: str


class LocalLauncher:
    """Runs up to `jobs` trials at a time, which share the CPU cores.

    A process that writes nothing for `patience` seconds is killed, and its trial has failed.
    """

    def __init__(self, folder: Folder, device: str, jobs: int, patience: float) -> None:
        self.folder, self.device, self.jobs, self.patience = folder, device, jobs, patience
        self.running: list[RunningTrial] = []

    @property
    def free(self) -> int:
        """How many more trials can be started now."""
        return self.jobs - len(self.running)

    def start(self, trial: Trial) -> None:
        """Start the process of a trial. It appends its output to the log of the trial."""
        threads = self.folder.write_request(trial, self.device, max(1, available_cores() // self.jobs))
        command = [sys.executable, "-P", "-m", "ganzoo.experiments.worker"]
        command += [str(self.folder.status_dir(trial)), str(os.getpid())]
        with open(self.folder.log(trial), "ab") as log:
            log_offset = log.tell()  # before the process is started: it shares the position in the file
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                # a session of its own: Ctrl-C in the terminal is sent to the benchmark only, which then stops its
                # trials
                start_new_session=True,
            )
            self.running.append(RunningTrial(trial, process, log_offset))

    def collect(self) -> list[EndedTrial]:
        """The trials that have ended since the last call; does not wait. Kills processes that hang."""
        ended = []
        for running in list(self.running):
            exit_code = running.process.poll()
            if exit_code is None:
                self._kill_if_hung(running)
                continue
            self.running.remove(running)
            ended.append(EndedTrial(running.trial, exit_code, self._reason(running, exit_code)))
        return ended

    def stop(self) -> None:
        """Ask all processes to save and end; does not wait. `collect` returns them when they have ended."""
        for running in self.running:
            running.process.terminate()

    def stop_trial(self, trial: Trial) -> None:
        """Ask the process of one trial to save and end; does not wait."""
        for running in self.running:
            if running.trial.name == trial.name:
                running.process.terminate()

    def kill(self) -> None:
        """Kill all processes. Only the steps since their last checkpoints are lost."""
        for running in self.running:
            running.process.kill()
            running.process.wait()
        self.running.clear()

    def _kill_if_hung(self, running: RunningTrial) -> None:
        now = time.monotonic()
        if now - running.last_check < min(_HANG_CHECK_SECONDS, self.patience / 10):
            return
        run, previous, running.last_check = self.folder.run(running.trial), running.newest_write, now
        for path in (self.folder.log(running.trial), run, *run.glob("*"), *run.glob("*/*")):
            with suppress(OSError):  # the file was deleted in the meantime
                running.newest_write = max(running.newest_write, path.stat().st_mtime)
        if running.newest_write > previous:
            running.unchanged_since = now
        elif now - running.unchanged_since > self.patience:
            running.hung = True
            running.process.kill()  # a hanging process may ignore SIGTERM

    def _reason(self, running: RunningTrial, exit_code: int) -> str:
        if running.hung:
            hours = f"{self.patience / 3600:.3g}"
            unit = "hour" if hours == "1" else "hours"
            return f"Its process wrote nothing for {hours} {unit} (--patience), and was killed."
        if exit_code in _STOPPED:
            return ""
        if exit_code < 0:
            return f"Its process was ended by {signal.Signals(-exit_code).name}."
        if exit_code == 0:
            return "Its process ended without the requested scores."
        with open(self.folder.log(running.trial), encoding="utf-8", errors="replace") as log:
            log.seek(running.log_offset)
            lines = [line.strip() for line in log.read().splitlines() if line.strip()]
        if not lines:
            return f"Its process ended with exit code {exit_code} and without a message."
        return lines[-1].removeprefix("Error: ")[:500]


def available_cores() -> int:
    """The number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
