"""The check before the first step changes nothing in the training. What it refuses: test_faulty_plugins.py."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ZOO, tiny_recipe

from ganzoo.engine.step import run_step
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo.training.preflight import preflight

TINY = Path(__file__).parents[1] / "tiny.py"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "norm and dropout": ("Tiny", {}),
    "conditional": ("TinyConditional", {}),
    "a loss with a buffer": ("Tiny", {"losses": ("nonsaturating", f"{TINY}:Remembering")}),
    "bf16, average, shared optimiser": (
        "Tiny",
        {"precision": "bf16", "ema_half_life": 10, "discriminator_optimizer": None},
    ),
    "penalty and augmentation": (
        "Tiny",
        {"losses": ("nonsaturating", "r1:gamma=0.1"), "augmentations": ("diffaugment",)},
    ),
    "a batch of two": ("Tiny", {"batch_size": 2}),
}


def tiny_setup(architecture: str, changes: dict[str, Any]) -> TrainingSetup:
    return build_setup(tiny_recipe(architecture, **changes), ZOO, torch.device("cpu"))


def after_a_step(architecture: str, changes: dict[str, Any], checked: bool) -> dict[str, torch.Tensor]:
    setup = tiny_setup(architecture, changes)
    if checked:
        preflight(setup, ZOO)
    run_step(setup.game, setup.feed, seed=0, step=0)
    return setup.game.state()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_step_after_the_check_is_the_step_without_it(case: tuple[str, dict[str, Any]]) -> None:
    plain, checked = (after_a_step(*case, checked=checked) for checked in (False, True))
    assert plain.keys() == checked.keys()
    for name, value in plain.items():
        assert torch.equal(value, checked[name]), name


def test_the_game_and_all_random_states_stay_as_they_are() -> None:
    setup = tiny_setup(*CASES["a loss with a buffer"])
    before = {name: value.clone() for name, value in setup.game.state().items()}
    drawn = len(setup.architecture.drawn)  # type: ignore[attr-defined]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    preflight(setup, ZOO)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    assert all(torch.equal(before[name], value) for name, value in setup.game.state().items())
    assert len(setup.architecture.drawn) == drawn  # type: ignore[attr-defined]
