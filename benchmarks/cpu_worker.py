"""Runs PyTorch steps of the engine and of other loops in a separate process, for benchmarks/cpu.py.

    python benchmarks/cpu_worker.py BATCH_SIZE

Each line of standard input holds the name of a variant and a number of steps. The program runs the steps and prints the
seconds they took. For `peak-fp32` and `peak-bf16` it prints the operations per second of a large convolution.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from bare import Bare
from measure import allocator
from steps import Steps
from textbook import Textbook
from torch.nn.functional import conv2d

from ganzoo import Choice
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import zoo
from ganzoo.training.build import TrainingSetup, build_setup

CPU = torch.device("cpu")
#: the update rule of PyTorch's DCGAN example, and that of the TensorFlow tutorial
RULES = {"alternating": {"turns": "D,G", "reuse_fakes": True}, "simultaneous": {"turns": "D+G"}}


def tutorial_setup(rule: str, precision: str, batch_size: int) -> TrainingSetup:
    """The tutorial's networks on MNIST, with one of the two update rules."""
    changes = {**RULES[rule], "precision": precision, "batch_size": batch_size, "batch_order": "stream"}
    return build_setup(plan(zoo(), Choice("dcgan-tutorial"), Choice("mnist"), changes=changes), zoo(), CPU)


def variant(name: str, batch_size: int) -> Callable[[], object]:
    """The step function of `textbook`, `engine-RULE-PRECISION` or `bare-simultaneous-PRECISION`."""
    if name == "textbook":
        dataset = tutorial_setup("simultaneous", "fp32", batch_size).dataset
        return Textbook(dataset.read(torch.arange(len(dataset)))[0], batch_size, CPU).step
    kind, rule, precision = name.split("-")
    setup = tutorial_setup(rule, precision, batch_size)
    return Steps(setup, capture=False).run if kind == "engine" else Bare(setup).step


def peak(precision: str) -> float:
    """Operations per second of a 3x3 convolution of 256 images of 28x28, 128 to 128 channels; the best of 6 calls."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    images, kernel = torch.randn(256, 128, 28, 28), torch.randn(128, 128, 3, 3)
    images, kernel = (t.to(dtype).contiguous(memory_format=torch.channels_last) for t in (images, kernel))
    best = float("inf")
    with torch.no_grad():
        for _ in range(6):
            since = time.perf_counter()
            conv2d(images, kernel, padding=1)
            best = min(best, time.perf_counter() - since)
    return 2 * 9 * 128 * 128 * 256 * 28 * 28 / best  # padding counts too, as in steps.operations


def main() -> None:
    """Run steps for each line of standard input until it ends."""
    batch_size, variants = int(sys.argv[1]), {}
    print(torch.__version__, allocator(), flush=True)
    for line in sys.stdin:
        name, count = line.split()
        if name.startswith("peak-"):
            print(peak(name.removeprefix("peak-")), flush=True)
            continue
        if name not in variants:
            variants[name] = variant(name, batch_size)
        since = time.perf_counter()
        for _ in range(int(count)):
            variants[name]()
        print(time.perf_counter() - since, flush=True)


if __name__ == "__main__":
    main()
