"""Processes that are killed: each run is a child forked from one that has imported everything, so that kills are cheap.

The parent never trains: a forked child of a process that has would inherit threads that do not run there.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401  (the digits are read with it)
import tiny
import torch
import torch._dynamo  # what every optimiser imports when it is made

from ganzoo import Choice, Recipe, UsageError
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.train import resume, start

CPU, ZOO = torch.device("cpu"), Zoo()
STEPS = 16


def recipe() -> Recipe:
    """A checkpoint after every step, grids and scores between them: the worst case on purpose."""
    fields = {
        "length": f"{STEPS} steps",
        "subset": "first 40",
        "tick_every": "1 steps",
        "checkpoint_every": "1 steps",
        "samples_every": "2 steps",
        "evaluators": [f"{tiny.__file__}:Brightness"],
        "score_every": "3 steps",
        "score_samples": 32,
        "ema_half_life": 50,
        "losses": ["nonsaturating", f"{tiny.__file__}:Remembering"],
    }
    return plan(ZOO, Choice(f"{tiny.__file__}:Tiny"), Choice("digits", {"size": 8}), None, fields)


def play(out: Path) -> None:
    """Start the run, or go on with it. One that was killed between its last file and the end of its process is done."""
    if (out / "recipe.json").exists():
        try:
            resume(out, ZOO, note=lambda text: None)
        except UsageError as refusal:
            if "has already trained" not in str(refusal):
                raise
    else:
        start(recipe(), out, ZOO, CPU, note=lambda text: None)


def forked(job: Callable[[], None]) -> int:
    """The process number of a child that does `job` and ends; 0 if it went well, else 1 with a traceback."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        torch.set_num_threads(1)
        job()
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    """The exit status of a child; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_until_done(out: Path, rng: random.Random, seconds: float, at_most: int = 4) -> int:
    """Play a run, killing it at random instants, up to `at_most` times; how often it was killed."""
    kills = 0
    while True:
        pid = forked(lambda: play(out))
        if kills < at_most:
            time.sleep(rng.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
        status = wait(pid)
        if status == 0:
            return kills
        assert status == -signal.SIGKILL, f"a resumed run failed with status {status}"
        kills += 1


def left(out: Path) -> dict[str, Any]:
    """All that a run leaves, without what is a matter of time."""
    saved = checkpoints.load_latest(out / "checkpoints")
    assert saved is not None
    assert saved.notes == []
    run = Run.open(out)
    return {
        "state": {name: value.tolist() for name, value in saved.tensors.items()},
        "step": saved.meta["step"],
        "checkpoints": sorted(path.name for path in (out / "checkpoints").iterdir()),
        "recipe": (out / "recipe.json").read_text(),
        "names": sorted(path.name for path in out.iterdir()),
        "stats": [
            {key: value for key, value in line.items() if "second" not in key} for line in run.lines("stats.jsonl")
        ],
        "scores": [_timeless(line) for line in run.lines("scores.jsonl")],
        "files": {
            f"{path.parent.name}/{path.name}": path.read_bytes()
            for folder in ("samples", "generators")
            for path in sorted((out / folder).iterdir())
        },
    }


def _timeless(line: dict[str, Any]) -> str:
    card = {key: value for key, value in line["card"].items() if key not in ("seconds", "time")}
    rest = {key: value for key, value in line.items() if "second" not in key}
    return json.dumps({**rest, "card": card}, sort_keys=True)
