"""The folder of a benchmark: the request and the outcome of each trial, its run and its log.

runs/NAME/          the run of a trial
cells/NAME/         cell.json: the request; done.json or failed.json: the outcome; stopped.json: why it was interrupted
logs/NAME.log       the output of its processes
table.json .csv .md .png

Trials used to be called cells; the files keep that name, so that old folders can be continued.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.experiments.grid import Trial
from ganzoo.storage.files import write_atomically
from ganzoo.storage.run import Run

State = Literal["done", "failed", "missing"]


@dataclass(frozen=True)
class Result:
    """The scores of a finished trial: lines of scores.jsonl by the name of the score."""

    seed: int
    #: real images seen in the whole run
    images: int
    #: duration of the run
    seconds: float
    #: scores of the generator at the end of the run
    last: Mapping[str, Mapping[str, Any]]
    #: scores of the generator that was best by the recipe's `best_by`; all of one generator
    best: Mapping[str, Mapping[str, Any]]


class Folder:
    """The folder of a benchmark at `path`; it need not exist yet. Raises UsageError if the path is a file."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; --out needs a directory.")
        self.path = path
        #: by the name of a trial: its result, and the state of the files that it was read from
        self._results: dict[str, tuple[Any, Result]] = {}

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Context manager: create the folder and hold its lock. Raises GanzooError if another benchmark holds it."""
        for name in ("runs", "cells", "logs"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise GanzooError(
                f"Another `ganzoo benchmark` works in {self.path}: wait for it, or choose another --out."
            ) from None
        except (OSError, NotImplementedError):
            pass  # the file system does not support locks: continue without one
        try:
            yield
        finally:
            lock.release()

    def run(self, trial: Trial) -> Path:
        """The directory of the run of a trial."""
        return self.path / "runs" / trial.name

    def status_dir(self, trial: Trial) -> Path:
        """The directory of the request and the outcome of a trial."""
        return self.path / "cells" / trial.name

    def log(self, trial: Trial) -> Path:
        """The log of a trial: the output of its processes."""
        return self.path / "logs" / f"{trial.name}.log"

    def write_request(self, trial: Trial, device: str, threads: int) -> int:
        """Write the request that the worker process of a trial reads; returns its number of CPU threads.

        An interrupted run keeps the number of threads it was started with: its numbers depend on it bit for bit.
        """
        directory = self.status_dir(trial)
        directory.mkdir(exist_ok=True)
        (directory / "stopped.json").unlink(missing_ok=True)
        (directory / "done.json").unlink(missing_ok=True)  # the trial is missing, so its scores are incomplete
        if self.run(trial).is_dir():
            threads = _read(directory / "cell.json").get("threads", threads)
        request = {
            "recipe": trial.recipe.to_dict(),
            "scores": [expected.score for expected in trial.expected_scores],
            "run": os.path.relpath(self.run(trial), directory),
            "device": device,
            "threads": threads,
            "architecture": trial.architecture,
            "dataset": trial.dataset,
            "row": trial.row,
            "axes": dict(trial.axes),
        }
        write_atomically(directory / "cell.json", _json(request))
        return threads

    def fail(self, trial: Trial, reason: str, exit_code: int | None = None) -> None:
        """Record that a trial failed, and why."""
        self.status_dir(trial).mkdir(exist_ok=True)
        write_atomically(self.status_dir(trial) / "failed.json", _json({"reason": reason, "exit_code": exit_code}))

    def note_stop(self, trial: Trial, reason: str, exit_code: int | None = None) -> None:
        """Record why the process of a trial ended before the trial was done, where the next call resumes it."""
        self.status_dir(trial).mkdir(exist_ok=True)
        write_atomically(self.status_dir(trial) / "stopped.json", _json({"reason": reason, "exit_code": exit_code}))

    def stop_reason(self, trial: Trial) -> str:
        """Why the process of a trial was stopped the last time; empty if it was not."""
        return str(_read(self.status_dir(trial) / "stopped.json").get("reason", ""))

    def forget(self, trial: Trial) -> None:
        """Delete the run and the outcome of a trial, so that it runs again from the beginning."""
        shutil.rmtree(self.run(trial), ignore_errors=True)
        for name in ("done.json", "failed.json", "stopped.json"):
            (self.status_dir(trial) / name).unlink(missing_ok=True)

    def state(self, trial: Trial) -> State:
        """Whether a trial is done, has failed, or is missing: not started or not finished."""
        if self.result(trial) is not None:
            return "done"
        return "failed" if self.reason(trial) else "missing"

    def reason(self, trial: Trial) -> str:
        """Why a trial failed; empty if it did not."""
        return str(_read(self.status_dir(trial) / "failed.json").get("reason", ""))

    def result(self, trial: Trial) -> Result | None:
        """The scores of a finished trial; None if it has not finished, or if one of its scores is no finite number."""
        files = self.status_dir(trial) / "done.json", self.run(trial) / "scores.jsonl", self.run(trial) / "stats.jsonl"
        try:
            state = [(status.st_mtime_ns, status.st_size) for status in map(os.stat, files)], trial.expected_scores
        except OSError:
            return None
        known = self._results.get(trial.name)
        if known is None or known[0] != state:
            self._results.pop(trial.name, None)
            if (result := self._read_result(trial)) is None:
                return None
            known = self._results[trial.name] = state, result
        return known[1]

    def _read_result(self, trial: Trial) -> Result | None:
        done = _read(self.status_dir(trial) / "done.json")
        if "step" not in done or not (self.run(trial) / "recipe.json").is_file():
            return None
        try:
            run = Run.open(self.run(trial))
            all_scores, all_stats, best_line = run.lines("scores.jsonl"), run.lines("stats.jsonl"), run.best()
        except GanzooError:
            return None  # damaged: the worker process reports it
        lines = [line for line in all_scores if line.get("training") and line["step"] <= done["step"]]
        last = {line["score"]: line for line in lines if line["step"] == done["step"]}
        stats = [line for line in all_stats if line["step"] <= done["step"]]
        complete = last.keys() >= {expected.score for expected in trial.expected_scores}
        if not stats or not complete or not all(math.isfinite(line["value"]) for line in last.values()):
            return None
        best_step = (best_line or done)["step"]
        best = {line["score"]: line for line in lines if line["step"] == best_step}
        # only best scores with the card of the last ones: a resumed run may have been scored in two ways
        comparable = {
            name: best[name] if name in best and best[name]["card"]["digest"] == line["card"]["digest"] else line
            for name, line in last.items()
        }
        return Result(trial.recipe.seed, done["images"], stats[-1]["seconds"], last, comparable)

    def progress(self, trial: Trial) -> dict[str, Any]:
        """The last line of stats.jsonl of a trial's run; empty if there is none yet."""
        with suppress(OSError, ValueError, IndexError), open(self.run(trial) / "stats.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            return dict(json.loads(file.read().splitlines()[-1]))
        return {}


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no such file or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
