"""Estimates how long the missing trials of a grid will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ganzoo.contract.errors import GanzooError, counted
from ganzoo.engine.progress import Progress
from ganzoo.engine.step import run_step
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup, build_setup

#: timed steps; one warm-up step comes before them
_STEPS = 3


@dataclass
class Pair:
    """A configuration of the grid: its trials, one a seed, and the number of them in each state."""

    trials: list[Trial]
    done: int
    failed: int
    missing: int
    #: estimated seconds of one trial; None if it cannot be built
    seconds: float | None
    #: how the seconds were found, or why there are none
    source: str


def estimate_pairs(zoo: Zoo, trials: Sequence[Trial], folder: Folder, device: torch.device) -> list[Pair]:
    """The pairs of the grid with their estimates.

    The seconds are the mean of the finished trials. If none has finished, a few steps are timed; then the time of
    scoring is not included.
    """
    pairs: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        pairs.setdefault(trial.configuration, []).append(trial)
    found = []
    for members in pairs.values():
        states = [folder.state(trial) for trial in members]
        seconds, source = _seconds(zoo, members, folder, device)
        done, failed, missing = (states.count(state) for state in ("done", "failed", "missing"))
        found.append(Pair(members, done, failed, missing, seconds, source))
    return found


def _seconds(zoo: Zoo, members: list[Trial], folder: Folder, device: torch.device) -> tuple[float | None, str]:
    finished = [result.seconds for trial in members if (result := folder.result(trial))]
    if finished:
        return sum(finished) / len(finished), f"mean of {len(finished)} finished"
    try:
        setup = build_setup(members[0].recipe, zoo, device)
        try:
            per_step = _seconds_per_step(setup)
        finally:
            setup.feed.close()
    except GanzooError as error:
        return None, str(error)
    steps = Progress(setup.recipe.length, setup.feed).last_step
    return per_step * steps, f"{counted(steps, 'step')} of {_duration(per_step)}, without scoring"


def _duration(seconds: float) -> str:
    """The time of a step with three digits: `3.19 ms`, `910 ms`, `2.81 s`."""
    milliseconds = f"{seconds * 1000:.3g}"
    return f"{seconds:.3g} s" if "e+" in milliseconds else f"{milliseconds} ms"


def _seconds_per_step(setup: TrainingSetup) -> float:
    """Mean seconds of a few steps. The first step is not timed: it allocates memory."""
    started = 0.0
    for step in range(_STEPS + 1):
        if step == 1:
            _synchronize(setup.device)
            started = time.perf_counter()
        run_step(setup.game, setup.feed, setup.recipe.seed, step)
    _synchronize(setup.device)
    return (time.perf_counter() - started) / _STEPS


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
