"""The complete recipe is made from its layers once: later layers win, and options change one part."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import tiny
from helpers import SMALL_DIGITS, ZOO, ganzoo

from ganzoo import Choice, UsageError
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo

TINY = Choice(f"{tiny.__file__}:Tiny")


def test_options_change_the_part_that_the_recipe_has() -> None:
    base = plan(ZOO, TINY, SMALL_DIGITS)
    options = {"generator_optimizer": {"lr": "0.5"}, "architecture": {"width": "3"}}
    changed = plan(ZOO, TINY, SMALL_DIGITS, options=options)
    assert changed.generator_optimizer.name == base.generator_optimizer.name
    assert changed.generator_optimizer.options == {**base.generator_optimizer.options, "lr": 0.5}
    assert changed.architecture is not None
    assert changed.architecture.options["width"] == 3
    assert changed.losses == base.losses


def test_options_change_the_part_that_was_chosen_instead() -> None:
    changes = {"generator_optimizer": Choice("rmsprop")}
    recipe = plan(ZOO, TINY, SMALL_DIGITS, None, changes, {"generator_optimizer": {"lr": 0.5}})
    assert recipe.generator_optimizer.name == "rmsprop"
    assert recipe.generator_optimizer.options["lr"] == 0.5


def test_options_of_a_part_that_the_recipe_lacks_are_refused() -> None:
    changes, options = {"discriminator_optimizer": None}, {"discriminator_optimizer": {"lr": 0.5}}
    with pytest.raises(UsageError, match=r"The optimizer is shared: .* --discriminator-optimizer"):
        plan(ZOO, TINY, SMALL_DIGITS, None, changes, options)


def test_a_command_resolves_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: Counter[tuple[str, str]] = Counter()
    real = Zoo.resolve

    def resolve(self: Zoo, kind: str, choice: Choice) -> Any:
        resolved[kind, choice.name] += 1
        return real(self, kind, choice)

    monkeypatch.setattr(Zoo, "resolve", resolve)
    done = ganzoo("train", "mlp-vanilla", "digits", "-o", "generator_optimizer.lr=0.5", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "lr = 0.5" in done.stdout
    assert resolved["architectures", "mlp-vanilla"] == resolved["datasets", "digits"] == 1
