"""Play a grid: the cells that are missing, some at a time, each in a process of its own; a table after each."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.protocol import Protocol
from ganzoo.evaluation.scorer import Scorer
from ganzoo.experiments import real_baseline, table
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial
from ganzoo.registry.source import PLUGIN_ERRORS, error_text
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import build_setup
from ganzoo.training.signals import Interrupted, Signals

#: seconds between two looks at the processes
_PAUSE = 0.1
#: seconds between two looks at what a process has written
_LOOK = 60.0
#: exit statuses of a cell that was stopped from outside: it is not to blame, as it is for a segmentation fault
_STOPPED = (130, 143, -signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)


@dataclass
class RunningTrial:
    """A cell at work."""

    process: subprocess.Popen[bytes]
    #: size of its log before it was started
    log_offset: int
    #: when it was last looked at, and when it was first seen to have written what it has, on a clock that stands still
    #: while the machine sleeps
    looked: float
    since: float
    #: the time of the last file that it wrote
    wrote: float = 0.0
    hung: bool = False


#: told the state of every cell by its name, several times a second: done, failed, missing, or running
ProgressCallback = Callable[[Mapping[str, str]], None]


def benchmark(
    zoo: Zoo,
    cells: Sequence[Trial],
    out: Path,
    device: str = "auto",
    jobs: int = 1,
    retry_failed: bool = False,
    scale: bool = False,
    patience: float = math.inf,
    watch: ProgressCallback = lambda states: None,
    note: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Play the cells that have not finished in `out`, and give the rows of the table, which are written there as well.

    With `scale` the rows also hold what real images score that are damaged in known steps. A cell that fails is counted
    and does not stop the others; one that has written nothing for `patience` seconds is ended, and has failed. Raises
    Interrupted, with everything saved, on a signal.
    """
    folder = Folder(out)
    with folder.taken():
        for cell in cells:
            if retry_failed and folder.state(cell) == "failed":
                folder.forget(cell)
        grid = _Grid(zoo, cells, folder, device, jobs, patience, watch, note)
        grid.refuse_misfits()
        grid.measure_floors(scale)
        grid.write()
        grid.play()
        return grid.rows


class _Grid:
    """The cells, and where each of them stands."""

    def __init__(
        self,
        zoo: Zoo,
        cells: Sequence[Trial],
        folder: Folder,
        device: str,
        jobs: int,
        patience: float,
        watch: ProgressCallback,
        note: Callable[[str], None],
    ) -> None:
        self.zoo, self.cells, self.folder, self.device, self.jobs = zoo, cells, folder, device, jobs
        self.patience, self.watch, self.note = patience, watch, note
        self.states: dict[str, str] = {cell.name: folder.state(cell) for cell in cells}
        self.known: dict[str, real_baseline.RealScores] = {}
        self.rows: list[dict[str, Any]] = []

    @property
    def missing(self) -> list[Trial]:
        """Cells that are to be played."""
        return [cell for cell in self.cells if self.states[cell.name] == "missing"]

    def refuse_misfits(self) -> None:
        """Fail the cells whose parts do not fit together, or cannot be scored, before anything is trained."""
        found: dict[Any, str] = {}
        for cell in self.missing:
            for key, check in ((cell.pair, misfit), (cell.dataset, unscorable)):
                if key not in found:
                    found[key] = check(self.zoo, cell)
            if reason := found[cell.pair] or found[cell.dataset]:
                self._settle(cell, reason)

    def measure_floors(self, scale: bool) -> None:
        """What the real images of the other split score: no generator is expected to do better."""
        for cell in self.cells:
            if cell.dataset not in self.known and self.states[cell.name] != "failed":
                self.known[cell.dataset] = real_baseline.measure_real_images(
                    self.zoo, cell, self.device, scale, self.note
                )

    def write(self) -> None:
        """The table as it stands."""
        self.rows = table.rows_of(self.cells, self.folder, self.known)
        table.write(self.rows, self.folder.path)

    def play(self) -> None:
        """Play what is missing. Raises Interrupted on a signal, when all processes have ended."""
        waiting, running = self.missing, dict[str, tuple[Trial, RunningTrial]]()
        with Signals().installed() as stop:
            told = False
            try:
                while running or (waiting and not stop.number):
                    while waiting and len(running) < self.jobs and not stop.number:
                        cell = waiting.pop(0)
                        running[cell.name] = cell, self._launch(cell)
                        self.states[cell.name] = "running"
                    if stop.number and not told:
                        told = True
                        for _, job in running.values():
                            job.process.terminate()
                    self._gather(running)
                    self.watch(self.states)
                    time.sleep(_PAUSE if running else 0)
            finally:  # a second Ctrl-C: checkpoints are whole whenever a process ends
                for _, job in running.values():
                    job.process.kill()
                    job.process.wait()
        if stop.number and self.missing:
            raise Interrupted(
                stop.number,
                f"Stopped by {signal.Signals(stop.number).name} with {len(self.missing)} of {len(self.cells)} cells to "
                f"play; everything is saved in {self.folder.path}. Go on with the same command.",
            )

    def _launch(self, cell: Trial) -> RunningTrial:
        threads = self.folder.write_request(cell, self.device, max(1, cores() // self.jobs))
        log = self.folder.log(cell)
        with open(log, "ab") as file:
            # a session of its own: Ctrl-C on the terminal reaches the benchmark, which tells its cells once
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "ganzoo.experiments.worker",
                    str(self.folder.status_dir(cell)),
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                start_new_session=True,
            )
            return RunningTrial(process, file.tell(), time.monotonic(), time.monotonic())

    def _gather(self, running: dict[str, tuple[Trial, RunningTrial]]) -> None:
        """Take in the processes that have ended."""
        for name, (cell, job) in list(running.items()):
            status = job.process.poll()
            if status is None:
                self._end_if_hung(cell, job)
                continue
            del running[name]
            stopped = status in _STOPPED and not job.hung
            self._settle(cell, "" if stopped else self._last_word(cell, job, status), status)
            self.write()

    def _end_if_hung(self, cell: Trial, job: RunningTrial) -> None:
        """Kill a process that has written nothing for too long: it does not have to hear a kinder word."""
        now = time.monotonic()
        if now - job.looked < min(_LOOK, self.patience / 10):
            return
        run, before, job.looked = self.folder.run(cell), job.wrote, now
        for path in (self.folder.log(cell), run, *run.glob("*"), *run.glob("*/*")):
            with suppress(OSError):  # gone since
                job.wrote = max(job.wrote, path.stat().st_mtime)
        if job.wrote > before:
            job.since = now
        elif now - job.since > self.patience:
            job.hung = True
            job.process.kill()

    def _settle(self, cell: Trial, reason: str, status: int | None = None) -> None:
        """Write down what came of a cell: its result if it has one, or else the reason; none if it was stopped."""
        state = self.folder.state(cell)
        if state == "missing" and reason:
            self.folder.fail(cell, reason, status)
            state = "failed"
        self.states[cell.name] = state
        self.note(f"{cell.name}: {_outcome(self.folder, cell, state)}")

    def _last_word(self, cell: Trial, job: RunningTrial, status: int) -> str:
        if job.hung:
            return f"It had written nothing for {self.patience / 3600:.3g} hours (--patience), and was ended."
        if status < 0:
            return f"Its process was ended by {signal.Signals(-status).name}."
        with open(self.folder.log(cell), encoding="utf-8", errors="replace") as file:
            file.seek(job.log_offset)
            said = [line.strip() for line in file.read().splitlines() if line.strip()]
        if status == 0:
            return "Its process ended without the scores it was asked for."
        return (
            said[-1].removeprefix("Error: ")[:500]
            if said
            else f"Its process ended with status {status}, saying nothing."
        )


def _outcome(folder: Folder, cell: Trial, state: str) -> str:
    result = folder.result(cell)
    if result is None:
        return f"failed: {folder.reason(cell)}" if state == "failed" else "stopped; to be gone on with"
    scores = "  ".join(f"{name} {line['value']:.4g}" for name, line in result.last.items())
    return f"done in {result.seconds:.0f} s: {scores}"


def misfit(zoo: Zoo, cell: Trial) -> str:
    """Why the parts of a cell do not fit together; empty where they do."""
    try:
        build_setup(cell.recipe, zoo, torch.device("cpu"))
    except PLUGIN_ERRORS as error:
        return error_text(error)
    return ""


def unscorable(zoo: Zoo, cell: Trial) -> str:
    """Why generators of a cell's dataset cannot be scored; empty where they can."""
    recipe, protocol = cell.recipe, Protocol.named(cell.recipe.protocol)
    try:
        Scorer(zoo, cell.data, recipe.evaluators, torch.device("cpu"), protocol, recipe.score_samples or None)
    except PLUGIN_ERRORS as error:
        return error_text(error)
    return ""


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
