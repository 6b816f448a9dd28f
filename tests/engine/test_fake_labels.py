"""Classes of the fakes that are drawn apart from those of the reals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL_DIGITS, ZOO
from torch import Tensor

import ganzoo
from ganzoo import Choice, Recipe, UsageError
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.registry.recipes import plan
from ganzoo.training.build import build_setup

TINY = Path(__file__).parents[1] / "tiny.py"
COUNT = 200


def make_game(**changes: Any) -> tuple[Game, Batch]:
    choice = Choice(f"{TINY}:TinyConditional", {"norm": False, "dropout": 0.0})
    recipe = plan(ZOO, choice, SMALL_DIGITS, None, {"batch_size": COUNT, "fake_labels": "uniform", **changes})
    setup = build_setup(recipe, ZOO, torch.device("cpu"))
    setup.game.reseed(0, 0)
    return setup.game, setup.feed.fill(0)[0]


@pytest.mark.parametrize("joint", [False, True])
def test_images_and_logits_are_of_these_classes(joint: bool) -> None:
    game, batch = make_game(joint_forward=joint)
    round = game.round(game.turns[0], batch)
    assert round.fake_labels.dtype == torch.int64
    assert round.labels is batch.labels
    assert sorted(set(round.fake_labels.tolist())) == list(range(10))
    assert 0.02 < (round.fake_labels == batch.labels).float().mean() < 0.25
    with torch.no_grad():
        fakes = game.generator(round.latents, round.fake_labels)
        torch.testing.assert_close(round.fakes, fakes)
        torch.testing.assert_close(round.fake_logits, game.discriminator(fakes, round.fake_labels))
        torch.testing.assert_close(round.real_logits, game.discriminator(batch.reals, batch.labels))
        torch.testing.assert_close(round.discriminate(fakes), game.discriminator(fakes, batch.labels))
        torch.testing.assert_close(round.generate(round.latents), fakes)


def test_they_are_drawn_in_each_turn_from_the_seed_of_the_latents() -> None:
    drawn = []
    for _ in range(2):
        game, batch = make_game()
        drawn.append([game.round(turn, batch).fake_labels.tolist() for turn in game.turns])
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_without_them_the_random_numbers_are_those_of_before() -> None:
    game, batch = make_game(fake_labels="reals")
    before = game.random.get_state()
    latents = game.latents(COUNT)
    game.random.set_state(before)
    round = game.round(game.turns[0], batch)
    assert round.fake_labels is batch.labels
    assert torch.equal(round.latents, latents)
    assert torch.equal(game.latents(COUNT), _after(game, before))


def _after(game: Game, state: Tensor) -> Tensor:
    game.random.set_state(state)
    game.latents(COUNT)
    return game.latents(COUNT)


def test_reused_fakes_keep_their_classes() -> None:
    game, batch = make_game(reuse_fakes=True)
    first = game.round(game.turns[0], batch)
    second = game.round(game.turns[1], batch, first)
    assert second.fake_labels is first.fake_labels
    assert second.fakes is first.fakes
    others = second.generate(second.latents + 1)
    assert not torch.equal(others, first.fakes)  # images of other latents are not those of the turn before
    assert others.requires_grad


def test_parts_of_a_round_have_their_own_share() -> None:
    game, batch = make_game()
    round = game.round(game.turns[0], batch)
    parts = list(round.split(150))
    assert [len(part.labels) for part in parts] == [150, 50]
    for name in ("reals", "labels", "latents", "fake_labels"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(round, name))
    assert [part.sides for part in parts] == [round.sides] * 2
    assert next(round.split(COUNT)) is round


@pytest.mark.parametrize("value", ["uniforms", "", None, 3])
def test_other_words_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="fake_labels"):
        Recipe(fake_labels=value)


@pytest.mark.parametrize("name", ["biggan", "sngan-projection"])
def test_published_recipes_draw_them(name: str) -> None:
    own = ZOO.load("architectures", Choice(name))
    for variant in (None, *own.recipes):
        recipe = plan(ZOO, Choice(name), Choice("digits"), variant)
        assert recipe.fake_labels == "uniform"
        assert Recipe.from_dict(recipe.to_dict()) == recipe
    old = {field: value for field, value in recipe.to_dict().items() if field != "fake_labels"}
    assert Recipe.from_dict(old).fake_labels == "reals"  # a run of before keeps its meaning
    assert ganzoo.plan(name, "digits", fake_labels="reals").fake_labels == "reals"
