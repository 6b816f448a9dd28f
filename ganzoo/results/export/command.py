"""The command that trains a recipe again: `ganzoo train ARCHITECTURE DATASET` and the options that differ."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.results.export.card import portable

#: field of a recipe -> the option of `ganzoo train` that sets it, where it is not `--field-name`
_OPTIONS = {"losses": "--loss", "augmentations": "--augmentation"}
#: fields that change no weight, and those that are named by position
_LEFT_OUT = ("observers", "evaluators", "score_every", "score_samples", "protocol", "best_by", "grid", "samples_every")
_ELSEWHERE = ("architecture", "dataset", "length", "tick_every", "checkpoint_every", *_LEFT_OUT)
#: fields without an option of their own: only a recipe file sets them
_FILE_ONLY = (
    "generator_mode_for_discriminator",
    "reuse_fakes",
)


def train_command(zoo: Zoo, recipe: Recipe) -> str:
    """The shortest command that trains this recipe, with a variant of the architecture where that is near.

    Options that change no weight are left out, and files are named without their folders. Where no options can say it,
    or a part is not installed, it names the
    file recipe.toml, whose text is beside it on the card.
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
        if field in _FILE_ONLY or (isinstance(wanted[field], list) and not wanted[field]):
            return None
        words += _option(zoo, field, getattr(recipe, field))
    if recipe.length != base.length:
        words += [f"--{recipe.length.unit}", str(recipe.length.count)]
    return words


def _architecture_options(recipe: Recipe, base: Recipe) -> list[str]:
    wanted, now = (each.architecture.options if each.architecture else {} for each in (recipe, base))
    changed = Choice("", {name: value for name, value in wanted.items() if now.get(name) != value})
    return [word for pair in str(changed).removeprefix(":").split(",") if pair for word in ("-o", pair)]


def _option(zoo: Zoo, field: str, value: Any) -> list[str]:
    option = _OPTIONS.get(field, f"--{field.replace('_', '-')}")
    values: Sequence[Any] = value if isinstance(value, tuple) else (value,)
    if field in KIND_OF_FIELD:
        kind = KIND_OF_FIELD[field]
        return [word for each in values for word in (option, "shared" if each is None else _spec(zoo, kind, each))]
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    return [option, str(value)]


def _spec(zoo: Zoo, kind: str, choice: Choice) -> str:
    """A part as text, with the options that are not its defaults."""
    try:
        defaults: Mapping[str, Any] = zoo.resolve(kind, Choice(choice.name)).options
    except GanzooError:
        return portable(choice)
    return portable(
        Choice(choice.name, {name: v for name, v in choice.options.items() if defaults.get(name, ...) != v})
    )
