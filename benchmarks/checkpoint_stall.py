"""How long a checkpoint holds the training up: the time its thread spends on one, with the writing itself beside it.

    python benchmarks/checkpoint_stall.py [--checkpoints 30] [--device cpu]

Prints a table and writes benchmarks/results/checkpoint_stall-DEVICE.json. "At work" is the processor's time of that
thread, which on a machine that others use is the better measure of the two. Targets: 50 ms (95th percentile), and 1 %
of the training at the default interval.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ganzoo import Choice
from ganzoo.engine.device import find_device
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import zoo
from ganzoo.storage import checkpoints
from ganzoo.training.checkpointer import Checkpointer
from ganzoo.training.train import start

RESULTS = Path(__file__).parent / "results"
BETWEEN = 2


class Watch:
    """Times the calls of functions."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        #: what of it the thread was at work
        self.work: dict[str, list[float]] = {}

    def over(self, owner: Any, function: str, name: str, before: Callable[[Any], None] = lambda owner: None) -> None:
        """Time `owner.function` from now on; what is done `before` it is not part of it."""
        plain: Callable[..., Any] = getattr(owner, function)

        def timed(*args: Any, **more: Any) -> Any:
            before(args[0])
            since, at_work = time.perf_counter(), time.thread_time()
            try:
                return plain(*args, **more)
            finally:
                self.seconds.setdefault(name, []).append(time.perf_counter() - since)
                self.work.setdefault(name, []).append(time.thread_time() - at_work)

        setattr(owner, function, timed)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so many are not above."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _spread(values: list[float]) -> dict[str, float]:
    return {"p50": 1e3 * statistics.median(values), "p95": 1e3 * percentile(values, 0.95), "max": 1e3 * max(values)}


def measure(architecture: str, device: torch.device, count: int, batch_size: int) -> dict[str, Any]:
    """Train for so many checkpoints, and then a few steps of the recipe's own batch size."""
    watch = Watch()
    # at any interval that a person would choose the one before has long been written
    watch.over(Checkpointer, "save", "held", before=lambda checkpointer: checkpointer.writer.settle())
    watch.over(Checkpointer, "check_finite", "held by a look")
    watch.over(checkpoints, "save", "written beside")
    chosen = plan(zoo(), Choice(architecture), Choice.parse("digits:size=28"))
    quick = {"samples_every": "1000000 steps", "tick_every": "1000000 steps"}
    length = BETWEEN * (count + 2)
    small = chosen.merged(
        {**quick, "batch_size": batch_size, "length": f"{length} steps", "checkpoint_every": f"{BETWEEN} steps"}
    )
    with tempfile.TemporaryDirectory() as folder:
        run, _ = start(small, Path(folder) / "run", zoo(), device, note=lambda text: None)
        newest = run.newest_checkpoint()
        assert newest is not None
        size = sum(file.stat().st_size for file in newest.iterdir())
        steps = 6
        since = time.perf_counter()
        start(
            chosen.merged({**quick, "length": f"{steps} steps", "checkpoint_every": "1000000 steps"}),
            Path(folder) / "steps",
            zoo(),
            device,
            note=lambda text: None,
        )
        step_seconds = (time.perf_counter() - since) / steps
    held, work = watch.seconds["held"][1:], watch.work["held"][1:]  # the first one makes its directory
    interval = chosen.checkpoint_every
    per_epoch = -(-60_000 // chosen.batch_size)
    steps_between = {"epochs": interval.count * per_epoch, "steps": interval.count}.get(
        interval.unit, interval.count // chosen.batch_size
    )
    return {
        "architecture": architecture,
        "checkpoints": len(held),
        "bytes": size,
        "held_ms": _spread(held),
        "held_thread_ms": _spread(work),
        "written_beside_ms_p50": 1e3 * statistics.median(watch.seconds["written beside"]),
        "look_ms_p50": 1e3 * statistics.median(watch.seconds.get("held by a look", [0.0])),
        "default_interval": f"{interval}",
        "steps_at_60000_images": steps_between,
        "step_seconds": step_seconds,
        "share_at_default_interval": statistics.median(held) / (steps_between * step_seconds),
        "share_at_1_ms_a_step": statistics.median(held) / (steps_between * 1e-3),
    }


def main() -> None:
    """Measure, print, and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="dcgan-tutorial")
    parser.add_argument("--checkpoints", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16, help="of the steps between; a state is as large with any")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = find_device(given.device)
    facts = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **measure(given.architecture, device, given.checkpoints, given.batch_size),
    }
    print(f"{facts['architecture']} on {facts['device']}, {facts['threads']} threads, load {facts['load']:.1f}")
    print(f"{facts['checkpoints']} checkpoints of {facts['bytes'] / 2**20:.1f} MiB")
    for words, spread in (("held up", facts["held_ms"]), ("at work", facts["held_thread_ms"])):
        print(f"{words:11} {spread['p50']:8.1f} ms median {spread['p95']:8.1f} ms p95 {spread['max']:8.1f} ms at most")
    print(f"written in  {facts['written_beside_ms_p50']:8.1f} ms median, beside the training")
    print(
        f"of the training at the default interval, {facts['default_interval']} of 60,000 images: "
        f"{facts['share_at_default_interval']:.4%}; if a step took 1 ms: {facts['share_at_1_ms_a_step']:.2%}"
    )
    path = RESULTS / f"checkpoint_stall-{device.type}.json"
    path.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
