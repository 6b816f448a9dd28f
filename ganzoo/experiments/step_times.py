"""How long a training step takes, and how much memory: measured by a few real steps on this device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch

from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.engine.sampler import balanced_labels, draw_all, draw_latents
from ganzoo.engine.step import graphed, run_step
from ganzoo.training.build import TrainingSetup

#: timed steps of a kind, at least and at most
_FEWEST, _MOST = 3, 200
#: warm-up steps of a kind: the first allocates memory; on CUDA three are eager and the next is recorded
_WARM_UP = {"cuda": 5}
#: steps among which the kinds are counted, where the intervals of losses have no common multiple below
_LONGEST_CYCLE = 10_000


@dataclass(frozen=True)
class StepTimes:
    """Measured times of a training."""

    #: of a step, the mean over steps with and without the losses that have an interval
    seconds: float
    #: of the fakes that are drawn each time a sample grid is written
    grid_seconds: float
    #: number of timed steps
    steps: int
    #: bytes at the peak: of the device on CUDA, of the process on a CPU; None where it is not known
    memory: int | None


def measure_steps(setup: TrainingSetup, seconds: float = 1.0) -> StepTimes:
    """Run a few steps of a training and time them, for about so many seconds; the networks of `setup` are changed.

    Steps in which a loss with an interval is due take longer, so they are timed apart, and counted as often as they
    come. Each kind has its warm-up steps.
    """
    game, device = setup.game, setup.device
    update = graphed(StepGraph(device, game.random, refusal=game.uncapturable))
    peak = _peak_memory(device)

    def run(steps: Iterator[int], most: int, enough: float = math.inf) -> tuple[float, int]:
        """Seconds and number of at most so many steps."""
        synchronize(device)
        started, done = time.perf_counter(), 0
        for step in islice(steps, most):
            run_step(game, setup.feed, setup.recipe.seed, step, update)
            done += 1
            if done >= _FEWEST and time.perf_counter() - started > enough:
                break
        synchronize(device)
        return time.perf_counter() - started, done

    kinds = _kinds([loss.every for loss in game.losses])
    warm_up = _WARM_UP.get(device.type, 1)
    total, timed = 0.0, 0
    for share, steps in kinds:
        run(steps, warm_up)
        taken, done = run(steps, _MOST, share * seconds)
        total, timed = total + share * taken / done, timed + done
    return StepTimes(total, _seconds_of_a_grid(setup), timed, peak())


def _kinds(everies: list[int]) -> list[tuple[float, Iterator[int]]]:
    """The kinds of steps by which losses are due, the most frequent first: the share of all steps, and their numbers.

    `everies` are the intervals of the losses.
    """
    intervals = sorted({every for every in everies if every > 1})
    cycle = min(math.lcm(*intervals), _LONGEST_CYCLE)

    def key(step: int) -> tuple[bool, ...]:
        return tuple(step % every == 0 for every in intervals)

    shares: dict[tuple[bool, ...], int] = {}
    for step in range(cycle):
        shares[key(step)] = shares.get(key(step), 0) + 1

    def steps(kind: tuple[bool, ...]) -> Iterator[int]:
        return (step for step in count() if key(step) == kind)

    ordered = sorted(shares, key=lambda kind: -shares[kind])
    return [(shares[kind] / cycle, steps(kind)) for kind in ordered]


def _seconds_of_a_grid(setup: TrainingSetup) -> float:
    """Seconds to draw the fakes of a sample grid, after one warm-up."""
    rows, columns = setup.recipe.grid_shape
    latents = draw_latents(setup.architecture, rows * columns, setup.device, setup.recipe.seed)
    labels = balanced_labels(len(latents), setup.dataset.spec.classes, setup.device)
    draw_all(setup.game.generator, setup.architecture, latents[:1], labels[:1])
    synchronize(setup.device)
    started = time.perf_counter()
    draw_all(setup.game.generator, setup.architecture, latents, labels)  # which waits for the device
    return time.perf_counter() - started


def time_of_a_step(seconds: float) -> str:
    """The time of a step with three digits: `3.19 ms`, `910 ms`, `2.81 s`."""
    milliseconds = f"{seconds * 1000:.3g}"
    return f"{seconds:.3g} s" if "e+" in milliseconds else f"{milliseconds} ms"


def synchronize(device: torch.device) -> None:
    """Wait for the device, where it works on its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(device: torch.device) -> Callable[[], int | None]:
    """Begin to watch the memory; returns a function for the bytes at the peak since then."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: torch.cuda.max_memory_reserved(device)
    with suppress(OSError):  # only Linux has it, and containers may forbid it
        Path("/proc/self/clear_refs").write_text("5")
        return _peak_of_process
    return lambda: None


def _peak_of_process() -> int | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return None
