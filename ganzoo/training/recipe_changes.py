"""What may be changed in the recipe of a run that is resumed: the networks and their saved state must stay valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.renamed_fields import RENAMED_FIELDS
from ganzoo.contract.schedule import Schedule
from ganzoo.registry.zoo import Zoo

#: names that the command line has for fields
_ALIASES = {
    **{"loss": "losses", "augmentation": "augmentations", "observer": "observers", "evaluator": "evaluators"},
    **{"samples": "score_samples"},
    **RENAMED_FIELDS,
}
#: field -> why it cannot change within a run
_FIXED = {
    "architecture": "it would be another network, and the saved weights would not fit",
    "dataset": "a run has one set of images; for a folder that has moved give --dataset path=NEW",
    "subset": "a run has one set of images",
    "batch_order": "the images that each step has seen are counted by it",
    "turns": "the images that each step has seen are counted by it",
    "freeze_d": "the optimiser has a state for the layers that are trained",
    "seed": "all random numbers of the run come from it",
    "length": "give --epochs, --images or --steps",
}
#: fields whose parts have a saved state: only options of the parts that are there can change
_WITH_STATE = ("losses", "augmentations", "generator_optimizer", "discriminator_optimizer")
_INTEGERS = ("batch_size", "accumulate", "ema_half_life", "ema_start", "score_samples")


def changed_recipe(recipe: Recipe, changes: Mapping[str, Any], zoo: Zoo) -> Recipe:
    """The recipe with these fields changed. A key is a field, or `field.option` of a part: `generator_optimizer.lr`.

    Of a field with several parts the key is `losses.r1.gamma`. Values may be text. Raises UsageError for a field that
    no recipe has, for one that cannot change within a run, with the reason, and for a value that is not allowed.
    """
    new = recipe
    for key, value in changes.items():
        field, _, option = key.partition(".")
        field = _ALIASES.get(field, field)
        names = [each.name for each in fields(Recipe)]
        if field not in names:
            changeable = [name for name in names if name not in _FIXED]
            raise UsageError(
                f"--set {key}: a recipe has no field {field!r}.{did_you_mean(field, names)} These can be changed: "
                f"{', '.join(changeable)}."
            )
        if field in _FIXED:
            raise UsageError(f"--set {key}: {field} cannot change within a run: {_FIXED[field]}.")
        new = _with_option(new, field, option, value, key) if option else _with_field(new, field, value, key)
    resolved: dict[str, Any] = {}
    for field, kind in KIND_OF_FIELD.items():
        part = getattr(new, field)
        if part != getattr(recipe, field):
            several = isinstance(part, tuple)
            resolved[field] = tuple(zoo.resolve(kind, one) for one in part) if several else zoo.resolve(kind, part)
    return new.merged(resolved) if resolved else new


def moved_dataset(recipe: Recipe, options: Mapping[str, Any], zoo: Zoo) -> Recipe:
    """The recipe with another `path` of its dataset: that of a folder or file that has moved.

    The images are compared by their fingerprint when the run is resumed. Raises UsageError for another option.
    """
    dataset = recipe.dataset
    assert dataset is not None  # noqa: S101  (the recipe of a run is complete)
    if set(options) != {"path"} or "path" not in dataset.options:
        other = ", ".join(name for name in options if name != "path") or "path"
        reason = f"{short_name(dataset)} has no path" if "path" not in dataset.options else "only path can change"
        raise UsageError(f"--dataset {other}: {reason}; a run is trained on one set of images.")
    moved = Choice(dataset.name, {**dataset.options, "path": str(options["path"])})
    return replace(recipe, dataset=zoo.resolve("datasets", moved))


def _with_field(recipe: Recipe, field: str, value: Any, key: str) -> Recipe:
    before = getattr(recipe, field)
    new = recipe.merged({field: _typed(field, value, key)})
    after = getattr(new, field)
    if field in _WITH_STATE and _names(before) != _names(after):
        raise UsageError(
            f"--set {key}: the checkpoint holds the state of {_names(before) or 'no part'}, which {_names(after)} "
            f"cannot continue; only options can change, for example --set {field}.OPTION=VALUE."
        )
    if field == "ema_half_life" and bool(before) != bool(after):
        state = "has a moving average" if before else "has no moving average"
        raise UsageError(f"--set {key}: the checkpoint {state}, so ema_half_life cannot become {after}.")
    return new


def _with_option(recipe: Recipe, field: str, option: str, value: Any, key: str) -> Recipe:
    part = getattr(recipe, field)
    if field not in KIND_OF_FIELD:
        raise UsageError(f"--set {key}: {field} is no part, so it has no option {option!r}; write {field}=VALUE.")
    if part is None:
        raise UsageError(f"--set {key}: the optimizer is shared; set generator_optimizer.{option}.")
    if not isinstance(part, tuple):
        return recipe.merged({field: _with(part, option, value)})
    name, dot, inner = option.rpartition(".")
    named = [one for one in part if short_name(one) == name] if dot else list(part)
    if len(named) != 1:
        known = ", ".join(f"{field}.{short_name(one)}.OPTION" for one in part) or "none"
        raise UsageError(f"--set {key}: name one part of {field}: {known}.")
    changed = tuple(_with(one, inner if dot else option, value) if one is named[0] else one for one in part)
    return recipe.merged({field: changed})


def _number(text: str, key: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--set {key}: it must be a number, not {text!r}.") from None


def _with(part: Choice, option: str, value: Any) -> Choice:
    return Choice(part.name, {**part.options, option: value})


def _names(value: Any) -> str:
    parts = value if isinstance(value, tuple) else (value,) if value else ()
    return ", ".join(short_name(part) for part in parts)


def _typed(field: str, value: Any, key: str) -> Any:
    """A value that is text, as the command line has it, in the type of its field."""
    if field == "early_stop" and value in (None, "off"):
        return ""
    if field == "discriminator_optimizer" and value == "shared":
        return None
    if not isinstance(value, str):
        return value
    if field == "ema_half_life" and Schedule.is_text(value):
        return value
    if field == "ema_ramp":
        return _number(value, key)
    if field in _INTEGERS:
        if not value.strip().isdecimal():
            raise UsageError(f"--set {key}: {field} must be a whole number, not {value!r}.")
        return int(value)
    if field in ("reuse_fakes", "joint_forward"):
        if value not in ("true", "false"):
            raise UsageError(f"--set {key}: {field} must be true or false, not {value!r}.")
        return value == "true"
    if field in ("observers", "evaluators", "losses", "augmentations"):
        return tuple(Choice.parse(text) for text in value.split(";") if text.strip())
    return value
