"""Measures one training step of a recipe on a device: captured and eager time, kernel launches, operations, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from measure import interleaved, ratio, spread, synchronize, timed
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ganzoo import Choice
from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.engine.step import graphed, run_step
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup, build_setup

#: the precision of the recipe, and whether matrix products are rounded to TF32, by the name in the printed table
PRECISIONS = {"fp32": ("fp32", False), "tf32": ("fp32", True), "bf16": ("bf16", False)}
#: CUDA calls of the host that count as one launch
_LAUNCHES = {
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cudaMemcpyAsync",
    "cudaMemsetAsync",
    "cudaGraphLaunch",
}


class Steps:
    """Runs the training steps of a setup in order, like the training loop; `capture` records them as a CUDA graph."""

    def __init__(self, setup: TrainingSetup, capture: bool) -> None:
        self.setup, self.next_step = setup, 0
        self.graph = StepGraph(setup.device, setup.game.random, capture, setup.game.uncapturable)

    def run(self, count: int = 1) -> None:
        """Run `count` steps."""
        game, feed, seed = self.setup.game, self.setup.feed, self.setup.recipe.seed
        for _ in range(count):
            run_step(game, feed, seed, self.next_step, graphed(self.graph))
            self.next_step += 1

    @property
    def images(self) -> int:
        """Number of real images in one step."""
        return self.setup.feed.images_at(1)


def setup_of(
    architecture: str,
    dataset: Choice,
    batch_size: int,
    precision: str,
    device: torch.device,
    recipe: str | None = None,
) -> TrainingSetup:
    """The setup of an architecture's own recipe, or of a named one, with this batch size and precision."""
    zoo, changes = Zoo(), {"batch_size": batch_size, "batch_order": "stream", "subset": "all", "precision": precision}
    return build_setup(plan(zoo, Choice.parse(architecture), dataset, recipe, changes), zoo, device)


@contextmanager
def rounding(tf32: bool) -> Iterator[None]:
    """Use TF32 or full float32 for matrix products inside; ganzoo itself uses float32 (engine.device.find_device)."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


def peak(device: torch.device, size: int) -> float:
    """Operations per second of a product of two bfloat16 matrices (size, size): the best of ten."""
    first, second = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: first @ second, device) for _ in range(10))


def launches(call: Callable[[], object], device: torch.device) -> int:
    """Number of launches on the device during a call; 0 on a CPU."""
    cuda = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *cuda]) as seen:
        call()
        synchronize(device)
    return sum(event.count for event in seen.key_averages() if event.key in _LAUNCHES)


class _Counter(TorchDispatchMode):
    """Adds up torch's own FLOP formulas over all operations; torch's FlopCounterMode fails on second derivatives."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=answer) if formula else 0
        return answer


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of a call; a multiply-add counts as two."""
    with _Counter() as counter:
        call()
    return counter.total


def memory(device: torch.device, call: Callable[[], object]) -> int:
    """Peak bytes allocated on the device during a call; 0 on a CPU."""
    if device.type != "cuda":
        call()
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    call()
    return int(torch.cuda.max_memory_allocated(device))


def measure_step(
    setup: TrainingSetup, others: dict[str, Callable[[], object]], rounds: int, seconds: float, matrix_peak: float
) -> dict[str, Any]:
    """All measurements of the step of one recipe, at one batch size and in one precision.

    `others` are steps of other programs by name; they are timed interleaved with ours. Each variant repeats its step
    for about `seconds` in every round.
    """
    device, images = setup.device, Steps(setup, False).images
    eager, captured = Steps(setup, capture=False), Steps(setup, capture=True)
    bytes_of = {"eager": memory(device, lambda: eager.run(2)), "captured": memory(device, lambda: captured.run(6))}
    counted = operations(eager.run)
    called = {name: launches(steps.run, device) for name, steps in (("eager", eager), ("captured", captured))}
    ours: dict[str, Callable[[], object]] = {"captured": captured.run, "eager": eager.run}
    counts: dict[str, int] = {}
    variants: dict[str, Callable[[], object]] = {}
    for name, step in {**ours, **others}.items():
        step()
        counts[name] = max(1, round(seconds / timed(step, device)))
        variants[name] = _repeated(step, counts[name])
    measured = interleaved(variants, rounds, device)
    each = {name: [value / counts[name] for value in values] for name, values in measured.items()}
    median = {name: spread(values)["median"] for name, values in each.items()}
    return {
        "images_per_step": images,
        "reason_for_eager": captured.graph.reason,
        "seconds_per_step": {name: spread(values) for name, values in each.items()},
        "images_per_second": {name: round(images / seconds) for name, seconds in median.items()},
        "times_captured": {name: ratio(each[name], each["captured"]) for name in each if name != "captured"},
        "launches_per_step": called,
        "operations_per_step": counted,
        "share_of_matrix_peak": counted / min(median.values()) / matrix_peak,
        "bytes_at_most": bytes_of,
    }


def _repeated(step: Callable[[], object], count: int) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(count):
            step()

    return steps
