"""Times the engine's step on a CPU, beside a textbook loop, the TensorFlow tutorial's and a hand-written loop.

    python benchmarks/cpu.py [--tensorflow PYTHON] [--jemalloc FILE] [--rounds 12]       make bench

All variants train the tutorial's networks on real MNIST with the same batch size. They are interleaved: every round
runs a few steps of each variant, and ratios are taken per round. The variants live in up to four worker processes that
sleep while others work: PyTorch and TensorFlow, each with the system's allocator and with jemalloc. TensorFlow has a
Python environment of its own. Prints tables and writes benchmarks/results/cpu.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoint_stall import measure as checkpoints
from cpu_worker import CPU, tutorial_setup
from measure import interleaved, machine, ratio, show, spread, write
from steps import Steps, operations

from ganzoo import GanzooError

HERE = Path(__file__).parent
ENGINE = tuple(f"engine-{rule}-{dtype}" for dtype in ("fp32", "bf16") for rule in ("alternating", "simultaneous"))
SIMULTANEOUS = ("engine-simultaneous-fp32", "engine-simultaneous-bf16")
BARE = ("bare-simultaneous-fp32", "bare-simultaneous-bf16")
#: no decay: freed memory is kept for the next step
JEMALLOC = {"MALLOC_CONF": "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1"}


class Worker:
    """A process that runs steps on request and sleeps otherwise."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        )
        #: its first line: versions and allocator
        self.greeting = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, name: str, count: int) -> float:
        """Seconds of `count` steps of a variant."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name} {count}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} has ended; run it by hand to see why.")
        return line.strip()


def steps(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds per step of every variant in each round, the peaks of the machine, and the first lines of the workers."""
    with ExitStack() as stack:
        worker = [sys.executable, str(HERE / "cpu_worker.py"), str(given.batch_size)]
        workers = {"": stack.enter_context(Worker(worker))}
        if given.jemalloc:
            workers["jemalloc"] = stack.enter_context(Worker(worker, LD_PRELOAD=given.jemalloc, **JEMALLOC))
        variants = {name: ("", name) for name in ("textbook", *ENGINE, *BARE)}
        if given.jemalloc:
            variants |= {f"{name}-jemalloc": ("jemalloc", name) for name in SIMULTANEOUS}
        if given.tensorflow:
            images = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "images.npy"
            dataset = tutorial_setup("simultaneous", "fp32", given.batch_size).dataset
            np.save(images, dataset.read(torch.arange(len(dataset)))[0].numpy(), allow_pickle=False)
            tutorial = [given.tensorflow, str(HERE / "tensorflow_tutorial.py"), str(images), str(given.batch_size)]
            workers["tensorflow"] = stack.enter_context(Worker(tutorial))
            variants["tensorflow"] = ("tensorflow", "step")
            if given.jemalloc:
                workers["tensorflow-jemalloc"] = stack.enter_context(
                    Worker(tutorial, LD_PRELOAD=given.jemalloc, **JEMALLOC)
                )
                variants["tensorflow-jemalloc"] = ("tensorflow-jemalloc", "step")
        for where, name in variants.values():
            workers[where].ask(name, 2)
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        peaks: dict[str, list[float]] = {"fp32": [], "bf16": []}
        order = list(variants)
        for index in range(given.rounds):
            first = index % len(order)
            for name in order[first:] + order[:first]:
                where, variant = variants[name]
                seconds[name].append(workers[where].ask(variant, given.steps) / given.steps)
            for precision, found in peaks.items():
                found.append(workers[""].ask(f"peak-{precision}", 1))
        return {
            "seconds": seconds,
            "peaks": {precision: statistics.median(found) for precision, found in peaks.items()},
            "workers": {where or "system": worker.greeting for where, worker in workers.items()},
        }


def ratios(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Speed ratios of the compared pairs: seconds of the first divided by those of the second, per round."""
    pairs = [("textbook", name) for name in ENGINE]
    pairs += [("tensorflow", name) for name in (*SIMULTANEOUS, *(f"{name}-jemalloc" for name in SIMULTANEOUS))]
    pairs += [("tensorflow-jemalloc", f"{name}-jemalloc") for name in SIMULTANEOUS]
    pairs += list(zip(BARE, SIMULTANEOUS, strict=True))
    return {
        f"{slow} / {fast}": ratio(seconds[slow], seconds[fast])
        for slow, fast in pairs
        if {slow, fast} <= seconds.keys()
    }


def parts(batch_size: int, rounds: int) -> dict[str, Any]:
    """Seconds of the parts of a step beside the computation (data, seeds, schedules), and the operations of a step."""
    setup = tutorial_setup("simultaneous", "fp32", batch_size)
    trainer = Steps(setup, capture=False)
    trainer.run(2)
    game, feed, number = setup.game, setup.feed, iter(range(10**6))
    found = interleaved(
        {
            "step": trainer.run,
            "data": lambda: feed.fill(next(number)),
            "seeds": lambda: game.reseed(0, next(number)),
            "schedules": lambda: game.advance(next(number)),
        },
        rounds,
        CPU,
    )
    return {
        "seconds": {name: spread(values) for name, values in found.items()},
        "share": {name: ratio(found[name], found["step"])["median"] for name in found if name != "step"},
        # counted in bf16, whose convolutions are direct sums over positions; those in fp32 use fewer operations
        "operations_per_step": operations(Steps(tutorial_setup("simultaneous", "bf16", batch_size), capture=False).run),
    }


def commands(rounds: int) -> dict[str, dict[str, float]]:
    """Wall-clock seconds of commands that do not train."""
    ganzoo = str(Path(sys.executable).with_name("ganzoo"))
    found: dict[str, list[float]] = {"--help": [], "list architectures": []}
    for _ in range(rounds):
        for words, seconds in found.items():
            since = time.perf_counter()
            subprocess.run([ganzoo, *words.split()], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - since)
    return {f"ganzoo {words}": spread(seconds) for words, seconds in found.items()}


def report(facts: dict[str, Any], batch_size: int) -> None:
    """Print the tables."""
    peaks, counted = facts["steps"]["peaks"], facts["parts"]["operations_per_step"]
    rows = []
    for name, seconds in facts["steps"]["seconds_per_step"].items():
        median = seconds["median"]
        precision = "bf16" if "bf16" in name else "fp32"
        share = f"{counted / median / peaks[precision]:.0%}" if "simultaneous" in name else ""
        low, high = 1e3 * seconds["low"], 1e3 * seconds["high"]
        rows.append((name, f"{1e3 * median:.0f}", f"{low:.0f}..{high:.0f}", f"{batch_size / median:.0f}", share))
    where = facts["machine"]
    title = f"{where['device']}, {where['threads']} threads, batch {batch_size}"
    show(title, ["step", "ms", "min..max", "images/s", "share of convolution peak"], rows)
    show(
        "speed ratios per round",
        ["slower / faster", "median", "min..max"],
        [(name, f"{v['median']:.2f}", f"{v['low']:.2f}..{v['high']:.2f}") for name, v in facts["ratios"].items()],
    )
    rows = [(f"{name} of a step", f"{share:.2%}") for name, share in facts["parts"]["share"].items()]
    rows += [(name, f"{1e3 * seconds['median']:.0f} ms") for name, seconds in facts["commands"].items()]
    stall = facts["checkpoints"]["held_ms"]
    rows.append(("a checkpoint blocks the training", f"{stall['p50']:.0f} ms median, {stall['p95']:.0f} ms p95"))
    rows += [(f"convolution peak, {name}", f"{value / 1e9:.0f} GF/s") for name, value in peaks.items()]
    show("beside the step", ["what", "value"], rows)


def main() -> None:
    """Measure, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensorflow", metavar="PYTHON", help="a Python interpreter that has TensorFlow")
    parser.add_argument(
        "--jemalloc",
        metavar="FILE",
        default=find_library("jemalloc"),
        help="the library of jemalloc  [default: found on the system]",
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2, help="steps of each variant in a round")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--checkpoints", type=int, default=20)
    given = parser.parse_args()
    measured = steps(given)
    facts: dict[str, Any] = {
        "machine": machine(CPU),
        "batch_size": given.batch_size,
        "rounds": given.rounds,
        "steps": {
            "seconds_per_step": {name: spread(values) for name, values in measured["seconds"].items()},
            "peaks": measured["peaks"],
            "workers": measured["workers"],
        },
        "ratios": ratios(measured["seconds"]),
        "parts": parts(given.batch_size, given.rounds),
        "commands": commands(given.rounds),
        "checkpoints": checkpoints("dcgan-tutorial", CPU, given.checkpoints, 16),
    }
    report(facts, given.batch_size)
    write("cpu", facts)


if __name__ == "__main__":
    try:
        main()
    except GanzooError as error:
        sys.exit(str(error))
