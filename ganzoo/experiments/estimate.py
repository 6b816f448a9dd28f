"""Estimates how long the missing trials of a grid will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ganzoo.contract.errors import GanzooError, counted
from ganzoo.engine.progress import Progress
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial
from ganzoo.experiments.step_times import measure_steps, time_of_a_step
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import build_setup


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
            per_step = measure_steps(setup, seconds=0).seconds
        finally:
            setup.feed.close()
    except GanzooError as error:
        return None, str(error)
    steps = Progress(setup.recipe.length, setup.feed).last_step
    return per_step * steps, f"{counted(steps, 'step')} of {time_of_a_step(per_step)}, without scoring"
