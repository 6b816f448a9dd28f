"""The command that trains a recipe again: `ganzoo train ARCHITECTURE DATASET` and the options that differ."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from typing import Any

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.train_options import ONLY_IN_FILES, option_words
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.results.export.card import portable

#: fields that change no weight, and those that are named by position
_LEFT_OUT = ("observers", "evaluators", "score_every", "score_samples", "protocol", "best_by", "grid", "samples_every")
_ELSEWHERE = ("architecture", "dataset", "length", "tick_every", "checkpoint_every", *_LEFT_OUT)


def train_command(zoo: Zoo, recipe: Recipe) -> str:
    """The shortest command that trains this recipe, with a variant of the architecture where that is near.

    Options that change no weight are left out, and files are named without their folders. Where no options can say it,
    or a part is not installed, it names the file recipe.toml, whose text is beside it on the card.
    """
    architecture, dataset = recipe.architecture, recipe.dataset
    assert architecture is not None and dataset is not None  # noqa: S101, PT018  (a run's recipe is complete)
    begin = ["ganzoo", "train", portable(Choice(architecture.name)), _spec(zoo, "datasets", dataset)]
    from_file = shlex.join([*begin[:3], dataset.name, "--recipe", "recipe.toml"])
    try:
        loaded = zoo.load("architectures", architecture)
        variants = [None, *loaded.recipes]
        plain = Choice(architecture.name)
        planned = {variant: plan(zoo, plain, dataset, variant) for variant in variants}
        found = [_words(zoo, recipe, base, variant) for variant, base in planned.items()]
    except GanzooError:
        return from_file
    known = [words for words in found if words is not None]
    return shlex.join([*begin, *min(known, key=lambda words: len(" ".join(words)))]) if known else from_file


def _words(zoo: Zoo, recipe: Recipe, base: Recipe, variant: str | None) -> list[str] | None:
    """The options that turn `base` into `recipe`; None where there is no option for one of them."""
    words = ["--recipe", variant] if variant else []
    wanted, now = recipe.every_field(), base.every_field()
    words += _architecture_options(recipe, base)
    for field in wanted:
        if field in _ELSEWHERE or wanted[field] == now[field]:
            continue
        if field in ONLY_IN_FILES or (isinstance(wanted[field], list) and not wanted[field]):
            return None
        kind = KIND_OF_FIELD.get(field)
        words += option_words(field, getattr(recipe, field), partial(_spec, zoo, kind) if kind else str)
    if recipe.length != base.length:
        words += [f"--{recipe.length.unit}", str(recipe.length.count)]
    return words


def _architecture_options(recipe: Recipe, base: Recipe) -> list[str]:
    wanted, now = (each.architecture.options if each.architecture else {} for each in (recipe, base))
    changed = Choice("", {name: value for name, value in wanted.items() if now.get(name) != value})
    return [word for pair in str(changed).removeprefix(":").split(",") if pair for word in ("-o", pair)]


def _spec(zoo: Zoo, kind: str, choice: Choice) -> str:
    """A part as text, with the options that are not its defaults."""
    try:
        defaults: Mapping[str, Any] = zoo.resolve(kind, Choice(choice.name)).options
    except GanzooError:
        return portable(choice)
    return portable(
        Choice(choice.name, {name: v for name, v in choice.options.items() if defaults.get(name, ...) != v})
    )
