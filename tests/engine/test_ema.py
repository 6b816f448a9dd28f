"""The EMA of the generator against the averages of official programs: start, ramp, schedule, buffers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_recipe
from torch import Tensor, nn

from ganzoo import Recipe, UsageError
from ganzoo.contract.schedule import Schedule
from ganzoo.engine.ema import EMA
from ganzoo.registry.zoo import Zoo
from ganzoo.training.recipe_changes import changed_recipe

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "modern" / "averages.json").read_text(encoding="utf-8")
)
WEIGHTS = torch.tensor(GOLDEN["weights"], dtype=torch.float64)


class Vector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(WEIGHTS[0].clone())
        self.register_buffer("buffer", 2 * WEIGHTS[0].clone())
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def averages(ema: EMA, network: Vector, images: int) -> list[tuple[Tensor, Tensor]]:
    found = []
    for step, weights in enumerate(WEIGHTS[1:]):
        ema.advance(step * images)
        with torch.no_grad():
            network.weight.copy_(weights)
            network.get_buffer("buffer").copy_(2 * weights)
            network.get_buffer("count").add_(1)
        ema.update(images)
        assert ema.network.get_buffer("count") == step + 1
        found.append((ema.network.get_parameter("weight").clone(), ema.network.get_buffer("buffer").clone()))
    return found


@pytest.mark.parametrize(
    ("name", "half_life", "ramp"),
    [
        ("stylegan2-ada (ema_kimg 0.1, rampup 0.05, batch 8)", 100, 0.05),
        ("stylegan2-ada (ema_kimg 0.1, no rampup, batch 8)", 100, 0.0),
        ("stylegan2-ada (ema_kimg 0.01, rampup 0.5, batch 8)", 10, 0.5),
    ],
)
def test_half_life_and_ramp_of_stylegan2(name: str, half_life: int, ramp: float) -> None:
    network = Vector()
    found = averages(EMA(network, half_life, "copied", ramp=ramp), network, images=8)
    for (weight, buffer), row, weights in zip(found, GOLDEN[name], WEIGHTS[1:], strict=True):
        torch.testing.assert_close(weight, torch.tensor(row["average"], dtype=torch.float64), rtol=1e-12, atol=1e-14)
        assert torch.equal(buffer, 2 * weights)


def test_decay_and_start_of_biggan() -> None:
    """The start counts iterations from 1 there, and images seen before the step here."""
    images, network = 10, Vector()
    half_life = images * math.log(0.5) / math.log(0.9)
    found = averages(EMA(network, half_life, "averaged", start=3 * images), network, images)
    for (weight, buffer), row in zip(found, GOLDEN["biggan (decay 0.9, start 4)"], strict=True):
        torch.testing.assert_close(weight, torch.tensor(row["parameter"], dtype=torch.float64), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(buffer, torch.tensor(row["buffer"], dtype=torch.float64), rtol=1e-12, atol=1e-14)


def test_a_half_life_on_a_schedule_from_0_copies_at_first() -> None:
    network, schedule = Vector(), Schedule(0, 64, 24)
    found = averages(EMA(network, schedule, "copied"), network, images=8)
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
