"""The folder of a benchmark: what is asked of each cell, what came of it, and its runs.

runs/NAME/          the run of a cell
cells/NAME/         cell.json: what is asked; done.json or failed.json: what came of it
logs/NAME.log       what its processes said
table.json .csv .md .png
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
    """What a finished cell found: lines of scores.jsonl by the name of the score."""

    seed: int
    images: int
    seconds: float
    #: of the generator at the end of the run
    last: Mapping[str, Mapping[str, Any]]
    #: of the generator that was best by the recipe's `best_by`, whichever score it is
    best: Mapping[str, Mapping[str, Any]]


class Folder:
    """The folder of a benchmark. Raises UsageError where none can be."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; --out needs a directory.")
        self.path = path

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Make it, and be the only benchmark that works here. Raises GanzooError where another one does."""
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
            pass  # the file system has no locks: go on without
        try:
            yield
        finally:
            lock.release()

    def run(self, cell: Trial) -> Path:
        """The directory of its run."""
        return self.path / "runs" / cell.name

    def status_dir(self, cell: Trial) -> Path:
        """The directory of what is asked of it, and of what came of it."""
        return self.path / "cells" / cell.name

    def log(self, cell: Trial) -> Path:
        """What its processes said."""
        return self.path / "logs" / f"{cell.name}.log"

    def write_request(self, cell: Trial, device: str, threads: int) -> int:
        """Write down what the cell's process is to do, and give its number of threads.

        A run that was begun goes on with the threads it began with: its bits depend on them.
        """
        desk = self.status_dir(cell)
        desk.mkdir(exist_ok=True)
        (desk / "done.json").unlink(missing_ok=True)  # it said so, and there are no scores: look again
        if self.run(cell).is_dir():
            threads = _read(desk / "cell.json").get("threads", threads)
        asked = {
            "recipe": cell.recipe.to_dict(),
            "scores": [promise.score for promise in cell.expected_scores],
            "run": os.path.relpath(self.run(cell), desk),
            "device": device,
            "threads": threads,
        }
        write_atomically(desk / "cell.json", _json(asked))
        return threads

    def fail(self, cell: Trial, reason: str, exit_code: int | None = None) -> None:
        """Write down that the cell failed, and why."""
        self.status_dir(cell).mkdir(exist_ok=True)
        write_atomically(self.status_dir(cell) / "failed.json", _json({"reason": reason, "exit_code": exit_code}))

    def forget(self, cell: Trial) -> None:
        """Remove all that came of the cell: it will be played from its beginning."""
        shutil.rmtree(self.run(cell), ignore_errors=True)
        for name in ("done.json", "failed.json"):
            (self.status_dir(cell) / name).unlink(missing_ok=True)

    def state(self, cell: Trial) -> State:
        """What came of the cell so far."""
        if self.result(cell) is not None:
            return "done"
        return "failed" if self.reason(cell) else "missing"

    def reason(self, cell: Trial) -> str:
        """Why the cell failed; empty where it did not."""
        return str(_read(self.status_dir(cell) / "failed.json").get("reason", ""))

    def result(self, cell: Trial) -> Result | None:
        """What a finished cell found; None where it has not finished, or left no number for each of its scores."""
        done = _read(self.status_dir(cell) / "done.json")
        if "step" not in done or not (self.run(cell) / "recipe.json").is_file():
            return None
        try:
            run = Run.open(self.run(cell))
        except GanzooError:
            return None  # damaged: the cell will say so by itself
        lines = [line for line in run.lines("scores.jsonl") if line.get("training") and line["step"] <= done["step"]]
        last = {line["score"]: line for line in lines if line["step"] == done["step"]}
        stats = [line for line in run.lines("stats.jsonl") if line["step"] <= done["step"]]
        whole = last.keys() >= {promise.score for promise in cell.expected_scores}
        if not stats or not whole or not all(math.isfinite(line["value"]) for line in last.values()):
            return None
        kept = run.best() or {"step": done["step"]}
        best = {line["score"]: line for line in lines if line["step"] == kept["step"]}
        alike = {
            name: best[name] if name in best and best[name]["card"]["digest"] == line["card"]["digest"] else line
            for name, line in last.items()
        }
        return Result(cell.recipe.seed, done["images"], stats[-1]["seconds"], last, alike)

    def progress(self, cell: Trial) -> dict[str, Any]:
        """The last line of the statistics of its run; empty where there is none yet."""
        with suppress(OSError, ValueError, IndexError), open(self.run(cell) / "stats.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            return dict(json.loads(file.read().splitlines()[-1]))
        return {}


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none that is whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
