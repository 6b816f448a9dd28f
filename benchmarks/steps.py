"""The step of a recipe on one device, measured: captured and eager, its launches, its operations, its memory."""

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

#: how a precision of the table is had: the recipe's, and whether products are rounded to TF32
PRECISIONS = {"fp32": ("fp32", False), "tf32": ("fp32", True), "bf16": ("bf16", False)}
#: what the host calls to have the device do something, one launch each
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
    """The steps of a table, one after the other as a training plays them."""

    def __init__(self, table: TrainingSetup, capture: bool) -> None:
        self.table, self.number = table, 0
        self.graph = StepGraph(table.device, table.game.random, capture, table.game.uncapturable)

    def play(self, count: int = 1) -> None:
        """So many steps."""
        game, feed, seed = self.table.game, self.table.feed, self.table.recipe.seed
        for _ in range(count):
            run_step(game, feed, seed, self.number, graphed(self.graph))
            self.number += 1

    @property
    def images(self) -> int:
        """Real images in one step."""
        return self.table.feed.images_at(1)


def seat(architecture: str, dataset: Choice, batch_size: int, precision: str, device: torch.device) -> TrainingSetup:
    """An architecture in its own recipe, on batches of this size."""
    zoo, changes = Zoo(), {"batch_size": batch_size, "batch_order": "stream", "subset": "all", "precision": precision}
    return build_setup(plan(zoo, Choice.parse(architecture), dataset, None, changes), zoo, device)


@contextmanager
def rounding(tf32: bool) -> Iterator[None]:
    """Products in TF32, or in full float32, inside; our own policy is float32 (ganzoo.engine.device.find_device)."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


def peak(device: torch.device, size: int) -> float:
    """Operations a second of a product of two bfloat16 matrices: the best of ten."""
    first, second = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: first @ second, device) for _ in range(10))


def launches(call: Callable[[], object], device: torch.device) -> int:
    """How often the host calls the device while it does this; 0 on a CPU."""
    cuda = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *cuda]) as seen:
        call()
        synchronize(device)
    return sum(event.count for event in seen.key_averages() if event.key in _LAUNCHES)


class _Counter(TorchDispatchMode):
    """Adds up what torch's own formulas say of every call; its FlopCounterMode cannot follow a second derivative."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=answer) if formula else 0
        return answer


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of the products and convolutions of a call; to multiply and to add are two."""
    with _Counter() as counter:
        call()
    return counter.total


def memory(device: torch.device, call: Callable[[], object]) -> int:
    """Bytes allocated on the device at the worst moment of a call; 0 on a CPU."""
    if device.type != "cuda":
        call()
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    call()
    return int(torch.cuda.max_memory_allocated(device))


def cell(
    table: TrainingSetup, others: dict[str, Callable[[], object]], rounds: int, seconds: float, matrix_peak: float
) -> dict[str, Any]:
    """All there is to say of one recipe at one size of batch and in one precision.

    `others` are steps of other programs by name, timed in turn with ours; a round takes about `seconds` for each.
    """
    device, images = table.device, Steps(table, False).images
    eager, captured = Steps(table, capture=False), Steps(table, capture=True)
    bytes_of = {"eager": memory(device, lambda: eager.play(2)), "captured": memory(device, lambda: captured.play(6))}
    counted = operations(eager.play)
    called = {name: launches(steps.play, device) for name, steps in (("eager", eager), ("captured", captured))}
    ours: dict[str, Callable[[], object]] = {"captured": captured.play, "eager": eager.play}
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
