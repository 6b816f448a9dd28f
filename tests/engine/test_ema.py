"""The EMA of the generator: a schedule, and the fields of a recipe; test_fidelity.py has those of official programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from helpers import tiny_recipe
from official_numbers import read_manifest
from official_parts import Vector, averages

from ganzoo import Recipe, UsageError
from ganzoo.contract.schedule import Schedule
from ganzoo.engine.ema import EMA
from ganzoo.registry.zoo import Zoo
from ganzoo.training.recipe_changes import changed_recipe

WEIGHTS = torch.tensor(read_manifest("averages")["weights"], dtype=torch.float64)


def test_a_half_life_on_a_schedule_from_0_copies_at_first() -> None:
    network, schedule = Vector(WEIGHTS[0]), Schedule(0, 64, 24)
    found = averages(EMA(network, schedule, "copied"), network, 8, WEIGHTS)
    assert torch.equal(found[0][0], WEIGHTS[1])
    expected = WEIGHTS[1]
    for step, (weight, _) in enumerate(found[1:], 1):
        kept = 0.5 ** (8 / schedule.at(8 * step))
        expected = WEIGHTS[step + 1] + kept * (expected - WEIGHTS[step + 1])
        torch.testing.assert_close(weight, expected, rtol=1e-12, atol=1e-14)


def test_the_recipe_records_the_ema() -> None:
    recipe = Recipe(ema_half_life="0 -> 500k by 20M", ema_buffers="copied", ema_start=1000, ema_ramp=0.05)
    assert recipe.ema_half_life == "0.0 -> 500000.0 by 20000000"
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert not {"ema_buffers", "ema_start", "ema_ramp"} & Recipe(ema_half_life=5).to_dict().keys()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ema_half_life": "0 -> -5 by 20M"}, "must be at least 0, and the schedule"),
        (
            {"ema_half_life": "0 -> 5 from 2M by 1M"},
            "ema_half_life: The schedule .* ends at 1000000 images, and it begins",
        ),
        ({"ema_half_life": "long"}, "ema_half_life must be a number, not 'long'"),
        ({"ema_half_life": -1}, "must be at least 0, not -1"),
        ({"ema_buffers": "kept"}, "ema_buffers='kept' is not one of: averaged, copied"),
        ({"ema_start": 0.5}, "ema_start must be a whole number"),
        ({"ema_ramp": -0.1}, "ema_ramp must be at least 0"),
    ],
)
def test_bad_settings(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Recipe(**fields)


def test_a_resumed_run_may_change_them() -> None:
    recipe = tiny_recipe(ema_half_life=1000)
    changes = {"ema_half_life": "100 -> 1000 by 5k", "ema_ramp": "0.5", "ema_start": "10", "ema_buffers": "copied"}
    changed = changed_recipe(recipe, changes, Zoo())
    assert (changed.ema_half_life, changed.ema_ramp) == ("100.0 -> 1000.0 by 5000", 0.5)
    assert (changed.ema_start, changed.ema_buffers) == (10, "copied")
    with pytest.raises(UsageError, match="it must be a number, not 'half'"):
        changed_recipe(recipe, {"ema_ramp": "half"}, Zoo())
