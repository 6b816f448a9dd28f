"""Estimate: how long the cells of a grid that are missing will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ganzoo.contract.errors import GanzooError
from ganzoo.engine.progress import Progress
from ganzoo.engine.step import run_step
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup, build_setup

_STEPS = 3


@dataclass
class Pair:
    """An architecture on a dataset, and where its seeds stand."""

    cells: list[Trial]
    done: int
    failed: int
    missing: int
    #: of one cell, and where that comes from; None where it cannot be played
    seconds: float | None
    source: str


def estimated(zoo: Zoo, cells: Sequence[Trial], folder: Folder, device: torch.device) -> list[Pair]:
    """Every pair of the grid. A pair of which nothing has finished is timed for a few steps, without its scores."""
    pairs: dict[tuple[str, str], list[Trial]] = {}
    for cell in cells:
        pairs.setdefault(cell.pair, []).append(cell)
    found = []
    for members in pairs.values():
        states = [folder.state(cell) for cell in members]
        seconds, source = _seconds(zoo, members, folder, device)
        done, failed, missing = (states.count(state) for state in ("done", "failed", "missing"))
        found.append(Pair(members, done, failed, missing, seconds, source))
    return found


def _seconds(zoo: Zoo, members: list[Trial], folder: Folder, device: torch.device) -> tuple[float | None, str]:
    finished = [result.seconds for cell in members if (result := folder.result(cell))]
    if finished:
        return sum(finished) / len(finished), f"mean of {len(finished)} finished"
    try:
        table = build_setup(members[0].recipe, zoo, device)
        per_step = _seconds_per_step(table)
    except GanzooError as error:
        return None, str(error)
    steps = steps_of(table)
    return per_step * steps, f"{steps:,} steps of {per_step * 1000:.3g} ms, scores apart"


def _seconds_per_step(table: TrainingSetup) -> float:
    """The mean of some steps; the one before them, which makes room, does not count."""
    started = 0.0
    for step in range(_STEPS + 1):
        if step == 1:
            _finish(table.device)
            started = time.perf_counter()
        run_step(table.game, table.feed, table.recipe.seed, step)
    _finish(table.device)
    return (time.perf_counter() - started) / _STEPS


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def steps_of(table: TrainingSetup) -> int:
    """Steps of the whole run: the first at which its clock has run out."""
    progress = Progress(table.recipe.length, table.feed.images_at, table.feed.epoch_images)
    low, high = 0, 1
    while not _done_at(progress, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _done_at(progress, middle) else (middle, high)
    return high


def _done_at(progress: Progress, step: int) -> bool:
    progress.step = step
    return progress.done
