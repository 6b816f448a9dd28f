"""A rehearsal leaves no trace. What it refuses is in test_faulty_plugins."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganzoo import Choice
from ganzoo.engine.step import train_step
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo.training.preflight import preflight

TINY = Path(__file__).parents[1] / "tiny.py"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "norm and dropout": (f"{TINY}:Tiny", {}),
    "conditional": (f"{TINY}:TinyConditional", {}),
    "a loss with a memory": (f"{TINY}:Tiny", {"losses": ("nonsaturating", f"{TINY}:Remembering")}),
    "bf16, average, shared optimiser": (
        f"{TINY}:Tiny",
        {"precision": "bf16", "ema_half_life": 10, "discriminator_optimizer": None},
    ),
    "penalty and augmentation": (
        f"{TINY}:Tiny",
        {"losses": ("nonsaturating", "r1:gamma=0.1"), "augmentations": ("diffaugment",)},
    ),
    "a batch of two": (f"{TINY}:Tiny", {"batch_size": 2}),
}


def table(architecture: str, changes: dict[str, Any]) -> tuple[TrainingSetup, Zoo]:
    zoo = Zoo()
    recipe = plan(zoo, Choice(architecture), Choice("digits", {"size": 8}), None, changes)
    return build_setup(recipe, zoo, torch.device("cpu")), zoo


def after_a_step(architecture: str, changes: dict[str, Any], rehearsed: bool) -> dict[str, torch.Tensor]:
    seated, zoo = table(architecture, changes)
    if rehearsed:
        preflight(seated, zoo)
    seated.game.reseed(0, 0)
    seated.game.advance(0)
    train_step(seated.game, seated.feed.fill(0))
    return seated.game.state()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_step_after_a_rehearsal_is_the_step_without_one(case: tuple[str, dict[str, Any]]) -> None:
    plain, rehearsed = (after_a_step(*case, rehearsed=rehearsed) for rehearsed in (False, True))
    assert plain.keys() == rehearsed.keys()
    for name, value in plain.items():
        assert torch.equal(value, rehearsed[name]), name


def test_nothing_of_the_game_and_no_random_state_is_touched() -> None:
    seated, zoo = table(*CASES["a loss with a memory"])
    before = {name: value.clone() for name, value in seated.game.state().items()}
    drawn = len(seated.architecture.drawn)  # type: ignore[attr-defined]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    preflight(seated, zoo)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    assert all(torch.equal(before[name], value) for name, value in seated.game.state().items())
    assert len(seated.architecture.drawn) == drawn  # type: ignore[attr-defined]
