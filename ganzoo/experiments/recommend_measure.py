"""What a suited recipe costs: parameters, memory and the time of a step, measured by a few real steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ganzoo.contract.choice import Amount
from ganzoo.contract.recipe import Recipe
from ganzoo.engine.progress import Progress
from ganzoo.experiments.recommend_candidates import Candidate
from ganzoo.experiments.step_times import StepTimes, measure_steps
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo.training.introduction import changes_for_small_set

#: sample grids of a length that is cut to the time
GRIDS = 20


@dataclass(frozen=True)
class Measured:
    """A candidate with its complete recipe, and what was measured."""

    candidate: Candidate
    recipe: Recipe
    #: fields that differ from those of the variant
    changes: dict[str, Any]
    times: StepTimes
    #: network -> number of parameters
    parameters: dict[str, int]
    #: seconds until the first step
    start: float
    #: steps of the recipe's own length, and steps until `needs` images were seen
    own_steps: int
    needed_steps: int
    #: real images of a step
    images_of_a_step: int

    def seconds(self, steps: int) -> float:
        """The estimated time of a training of so many steps, with its sample grids."""
        return self.start + (GRIDS + 2) * self.times.grid_seconds + steps * self.times.seconds

    def steps_in(self, seconds: float) -> int:
        """The number of steps that fit into this time, at least 1; of many, two digits are kept."""
        steps = max(1, int((seconds - self.seconds(0)) / self.times.seconds))
        digits = 10 ** max(0, len(str(steps)) - 2)
        return int(steps // digits * digits)


def measure(zoo: Zoo, candidate: Candidate, images: int, device: torch.device) -> Measured:
    """Build a candidate and run a few steps of it. Raises GanzooError where a part cannot be built."""
    variant = candidate.suited.recipe or None
    plain = plan(zoo, candidate.architecture, candidate.dataset, variant)
    changes = changes_for_small_set(plain, images)
    recipe = plan(zoo, candidate.architecture, candidate.dataset, variant, changes)
    started = time.perf_counter()
    setup = build_setup(recipe, zoo, device)
    try:
        start = time.perf_counter() - started
        times = measure_steps(setup)
        return Measured(
            candidate,
            recipe,
            changes,
            times,
            {name: _parameters(getattr(setup.game, name)) for name in ("generator", "discriminator")},
            start + times.seconds,  # the check before the first step is about one
            Progress(recipe.length, setup.feed).last_step,
            _steps_until(setup, candidate.suited.needs),
            setup.feed.images_at(1),
        )
    finally:
        setup.feed.close()


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _steps_until(setup: TrainingSetup, images: int) -> int:
    return Progress(Amount(images, "images"), setup.feed).last_step
