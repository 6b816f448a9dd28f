"""Train runs in child processes and kill these. Children are forked, so that they need not import anything again.

The parent process must not train: a forked child has no copies of the threads that training starts.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401  (the digits are read with it)
import tiny
import torch
import torch._dynamo  # every optimiser imports it when it is built
from helpers import ZOO, tiny_recipe

from ganzoo import Recipe, UsageError
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.train import resume, start

CPU = torch.device("cpu")
STEPS = 16

# The first backward of a process decides on the threads of autograd; a forked child cannot go on without them. After a
# compiled network there would be some, so this backward comes when the tests are collected, before any of them runs.
torch.zeros(1, requires_grad=True).sum().backward()


def recipe() -> Recipe:
    """A recipe with a checkpoint after every step, and with grids and scores: most files are written per step."""
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
    return tiny_recipe(**fields)


def train(out: Path) -> None:
    """Start or resume the run in `out`; do nothing if it has finished."""
    if (out / "recipe.json").exists():
        try:
            resume(out, ZOO, note=lambda text: None)
        except UsageError as refusal:
            if "has already trained" not in str(refusal):
                raise
    else:
        start(recipe(), out, ZOO, CPU, note=lambda text: None)


def forked(job: Callable[[], None]) -> int:
    """Fork a child that calls `job`, and return its process number. It exits with 0, or with 1 and a traceback."""
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
    """Wait for a child; returns its exit status, or minus the number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def together(job: Callable[[int], None], world: int) -> list[int]:
    """The exit statuses of `world` processes that form one group and call `job` with their rank."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def of_rank(rank: int) -> Callable[[], None]:
        def begin() -> None:
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os.environ |= {**address, "WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank)}
            job(rank)

        return begin

    return [wait(process) for process in [forked(of_rank(rank)) for rank in range(world)]]


def kill_until_done(out: Path, rng: random.Random, seconds: float, at_most: int = 4) -> int:
    """Train a run to its end, killing it up to `at_most` times, each within `seconds`; returns the number of kills."""
    kills = 0
    while True:
        pid = forked(lambda: train(out))
        if kills < at_most:
            time.sleep(rng.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
        status = wait(pid)
        if status == 0:
            return kills
        assert status == -signal.SIGKILL, f"a resumed run failed with status {status}"
        kills += 1


def left(out: Path) -> dict[str, Any]:
    """The files and the last checkpoint of a run, without times, to be compared."""
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
