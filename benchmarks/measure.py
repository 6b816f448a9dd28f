"""Shared by all benchmarks: interleaved timing, a description of the machine, printed tables and JSON files."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ganzoo.engine.device import device_name

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch-ganzoo", "torch", "torchvision", "torchmetrics", "numpy")


def machine(device: torch.device) -> dict[str, Any]:
    """The hardware, the load and the software versions of a measurement."""
    cuda = device.type == "cuda"
    return {
        "device": device_name(device),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "allocator": allocator(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}},
        **({"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if cuda else {}),
    }


def allocator() -> str:
    """The name of this process's memory allocator: a preloaded one, or "system"."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    return next((name for name in ("jemalloc", "tcmalloc", "mimalloc") if name in preloaded), "system")


def interleaved(
    variants: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of one call of each variant in every round.

    Variants run one after the other within a round, so noise of the machine affects all of them alike. The order is
    rotated by one each round, so that no variant always follows the same one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            seconds[name].append(timed(variants[name], device))
    return seconds


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, until the device has finished its work."""
    synchronize(device)
    since = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - since


def synchronize(device: torch.device) -> None:
    """Wait until a CUDA device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """The ratio slow / fast of each round: median, minimum and maximum."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=140).print(table)


def write(name: str, facts: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write the facts to NAME.json in the results folder, and print and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"written to {path}")
    return path
