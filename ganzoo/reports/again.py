"""How a run was asked for: its recipe as the difference to the architecture's own, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import UsageError
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.train_options import ONLY_IN_FILES, option_words
from ganzoo.experiments.axes import flat
from ganzoo.registry.recipes import plan
from ganzoo.registry.source import PLUGIN_ERRORS
from ganzoo.registry.zoo import Zoo

#: fields that the command names by position, or at its end
_ELSEWHERE = ("architecture", "dataset", "length", "seed")


def own_recipe(zoo: Zoo, recipe: Recipe, locations: bool) -> Recipe | None:
    """The recipe that the architecture has by itself on the same dataset; None if it cannot be known here.

    Code in a file is imported only with `locations`.
    """
    architecture, dataset = recipe.architecture, recipe.dataset
    assert architecture is not None and dataset is not None  # noqa: S101, PT018  (a run's recipe is complete)
    if not locations and any(choice.is_location for choice in (architecture, dataset)):
        return None
    try:
        return plan(zoo, Choice(architecture.name), dataset)
    except PLUGIN_ERRORS:
        return None


def changes(own: Recipe, recipe: Recipe) -> list[dict[str, str]]:
    """How `recipe` differs from the architecture's own: `name`, `own` and `here`. The dataset and the seed are not."""
    before, now = flat(own.to_dict()), flat(recipe.to_dict())
    names = [name for name in dict.fromkeys([*before, *now]) if name.partition(".")[0] != "dataset"]
    return [
        {"name": name, "own": before.get(name, "-"), "here": now.get(name, "-")}
        for name in names
        if before.get(name) != now.get(name)
    ]


def command(own: Recipe | None, recipe: Recipe) -> str:
    """The command that trains the run again, with the options that differ from the architecture's own recipe.

    Where the own recipe is not known, or a change has no option, the command reads recipe.toml; `needs_file` says so.
    """
    architecture, dataset = recipe.architecture, recipe.dataset
    assert architecture is not None and dataset is not None  # noqa: S101, PT018  (a run's recipe is complete)
    words = ["ganzoo", "train"]
    if needs_file(own, recipe):
        words += [str(architecture), str(dataset), "--recipe", "recipe.toml"]
        return shlex.join(words)
    assert own is not None  # noqa: S101  (needs_file)
    words += [str(_changed(own.architecture, architecture)), str(_without_defaults(dataset))]
    for name in _different(own, recipe):
        if name not in _ELSEWHERE:
            words += option_words(name, getattr(recipe, name))
    words += [f"--{recipe.length.unit}", str(recipe.length.count), "--seed", str(recipe.seed)]
    return shlex.join(words)


def needs_file(own: Recipe | None, recipe: Recipe) -> bool:
    """Whether the command needs the recipe as a file."""
    if own is None:
        return True
    changed = _different(own, recipe)
    emptied = any(getattr(recipe, name) == () and getattr(own, name) != () for name in changed)
    return emptied or not changed.isdisjoint(ONLY_IN_FILES)


def _different(own: Recipe, recipe: Recipe) -> set[str]:
    before, now = own.to_dict(), recipe.to_dict()
    # in the order of the recipe's fields
    return {name: None for name in {**now, **before} if before.get(name) != now.get(name)}.keys()  # type: ignore[return-value]


def _changed(own: Choice | None, choice: Choice) -> Choice:
    """The choice with the options that differ from the own ones."""
    known: Mapping[str, Any] = own.options if own is not None and own.name == choice.name else {}
    return Choice(choice.name, {k: v for k, v in choice.options.items() if k not in known or known[k] != v})


def _without_defaults(dataset: Choice) -> Choice:
    try:
        Choice.parse(str(dataset))
    except UsageError:
        return Choice(dataset.name)
    return dataset
