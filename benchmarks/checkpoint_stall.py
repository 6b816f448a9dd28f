"""Measures how long a checkpoint blocks the training thread; the writing itself happens in the background.

    python benchmarks/checkpoint_stall.py [--checkpoints 30] [--device cpu]

Prints a table and writes benchmarks/results/checkpoint_stall-DEVICE.json. "CPU time" is the processor time of the
training thread; on a busy machine it is more reliable than the elapsed time. Targets: 50 ms (95th percentile), and 1 %
of the training at the default interval.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import write

from ganzoo import Choice
from ganzoo.engine.device import find_device
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import zoo
from ganzoo.storage import checkpoints
from ganzoo.training.checkpointer import Checkpointer
from ganzoo.training.train import start

#: steps from one checkpoint to the next
STEPS_BETWEEN = 2


class CallTimer:
    """Times every call of chosen methods."""

    def __init__(self) -> None:
        #: elapsed seconds of each call, by name
        self.seconds: dict[str, list[float]] = {}
        #: seconds of processor time of the calling thread
        self.cpu_seconds: dict[str, list[float]] = {}

    def patch(self, owner: Any, function: str, name: str, before: Callable[[Any], None] = lambda owner: None) -> None:
        """Time all calls of `owner.function` from now on; `before` is called first and not timed."""
        original: Callable[..., Any] = getattr(owner, function)

        def timed(*args: Any, **more: Any) -> Any:
            before(args[0])
            since, cpu_since = time.perf_counter(), time.thread_time()
            try:
                return original(*args, **more)
            finally:
                self.seconds.setdefault(name, []).append(time.perf_counter() - since)
                self.cpu_seconds.setdefault(name, []).append(time.thread_time() - cpu_since)

        setattr(owner, function, timed)


def percentile(values: list[float], share: float) -> float:
    """The percentile of the values at `share`, 0 to 1, without interpolation."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _spread(values: list[float]) -> dict[str, float]:
    return {"p50": 1e3 * statistics.median(values), "p95": 1e3 * percentile(values, 0.95), "max": 1e3 * max(values)}


def measure(architecture: str, device: torch.device, count: int, batch_size: int) -> dict[str, Any]:
    """Train until there are so many checkpoints; then time a few steps at the recipe's own batch size."""
    timer = CallTimer()
    # at usual intervals the previous checkpoint has long been written, so waiting for it is not timed
    timer.patch(Checkpointer, "save", "held", before=lambda checkpointer: checkpointer.writer.settle())
    timer.patch(Checkpointer, "check_finite", "held by a look")
    timer.patch(checkpoints, "save", "written beside")
    chosen = plan(zoo(), Choice(architecture), Choice.parse("digits:size=28"))
    quick = {"samples_every": "1000000 steps", "tick_every": "1000000 steps"}
    length = STEPS_BETWEEN * (count + 2)
    small = chosen.merged(
        {**quick, "batch_size": batch_size, "length": f"{length} steps", "checkpoint_every": f"{STEPS_BETWEEN} steps"}
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
    held, cpu = timer.seconds["held"][1:], timer.cpu_seconds["held"][1:]  # the first one also creates its directory
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
        "held_thread_ms": _spread(cpu),
        "written_beside_ms_p50": 1e3 * statistics.median(timer.seconds["written beside"]),
        "look_ms_p50": 1e3 * statistics.median(timer.seconds.get("held by a look", [0.0])),
        "default_interval": f"{interval}",
        "steps_at_60000_images": steps_between,
        "step_seconds": step_seconds,
        "share_at_default_interval": statistics.median(held) / (steps_between * step_seconds),
        "share_at_1_ms_a_step": statistics.median(held) / (steps_between * 1e-3),
    }


def main() -> None:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="dcgan-tutorial")
    parser.add_argument("--checkpoints", type=int, default=30)
    parser.add_argument(
        "--batch-size",
        type=int,
        default=16,
        help="of the steps between checkpoints; the size of a checkpoint does not depend on it",
    )
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
    for label, spread in (("blocked", facts["held_ms"]), ("CPU time", facts["held_thread_ms"])):
        print(f"{label:11} {spread['p50']:8.1f} ms median {spread['p95']:8.1f} ms p95 {spread['max']:8.1f} ms maximum")
    print(f"written in  {facts['written_beside_ms_p50']:8.1f} ms median, in the background")
    print(
        f"share of the training at the default interval, {facts['default_interval']} of 60,000 images: "
        f"{facts['share_at_default_interval']:.4%}; if a step took 1 ms: {facts['share_at_1_ms_a_step']:.2%}"
    )
    write(f"checkpoint_stall-{device.type}", facts)


if __name__ == "__main__":
    main()
