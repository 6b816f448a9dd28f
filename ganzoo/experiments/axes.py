"""Axes of a study: the fields of a recipe that trials differ in, and the values of each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganzoo.contract.choice import Amount, Choice, short_name
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.files import digest_of

#: fields of a recipe that do not change what is trained
NOT_TRAINED = {
    "seed",
    "observers",
    "evaluators",
    "tick_every",
    "samples_every",
    "checkpoint_every",
    "score_every",
    "protocol",
    "score_samples",
    "best_by",
    "grid",
}
#: packages whose versions `ganzoo merge` tells apart, as if they were axes
VERSIONS = ("ganzoo", "torch")
#: other names of fields; the first name of a field is the one that tables show
_OTHER_NAMES = {
    "architectures": "architecture",
    "datasets": "dataset",
    "seeds": "seed",
    "losses": "loss",
    "penalties": "penalty",
    "augmentations": "augmentation",
    "evaluator": "evaluators",
    "observer": "observers",
    "samples": "score_samples",
}
#: name of an axis -> field of the recipe, where they differ. A penalty is added to the losses of the recipe.
_FIELD_OF = {"loss": "losses", "penalty": "losses", "augmentation": "augmentations"}
_UNITS = ("epochs", "images", "steps")
_FIELDS = [field.name for field in dataclasses.fields(Recipe)]
#: axes whose options `axis.option` may vary
WITH_OPTIONS = ("architecture", "dataset", "generator_optimizer", "discriminator_optimizer", "loss", "penalty",
                "augmentation")  # fmt: skip
#: axes of which a value is a sum of parts, or `none`
_SUMS = ("loss", "penalty", "augmentation")
_WHOLE = ("batch_size", "accumulate", "ema_half_life", "ema_start", "freeze_d", "score_samples", "seed")
#: everything that may vary without a dot
AXES = [
    *("architecture", "dataset", "seed", "loss", "penalty", "augmentation", *_UNITS),
    *(name for name in _FIELDS if name not in NOT_TRAINED and name not in ("losses", "augmentations")),
]
AXES = list(dict.fromkeys(AXES))

#: reads a dataset, where a folder of pictures may be written as its path
ParseDataset = Callable[[Any], Choice]


@dataclass(frozen=True)
class Value:
    """One value of an axis."""

    #: a Choice, a tuple of them, an Amount, or a plain value
    value: Any
    #: as tables show it: a number, a bool or a text
    label: Any

    @property
    def text(self) -> str:
        """The label as text."""
        if isinstance(self.label, bool):
            return str(self.label).lower()
        return f"{self.label:g}" if isinstance(self.label, float) else str(self.label)


def axis_named(name: str, where: str = "axis") -> str:
    """The name of an axis under which tables show it: `losses` is `loss`, `generator_optimizer.lr` stays.

    `where` is the word for it in a message. Raises UsageError, with near names, for anything that cannot vary.
    """
    field, dot, option = str(name).strip().partition(".")
    field = next(iter(with_current_names({field: "fresh" if field == "generator_fakes" else ""})))
    field = _OTHER_NAMES.get(field, field)
    if dot:
        if field in WITH_OPTIONS and option.isidentifier():
            return f"{field}.{option}"
        near = did_you_mean(field, WITH_OPTIONS)
        raise UsageError(
            f"There is no {where} {name!r}.{near} Before the dot stands one of {', '.join(WITH_OPTIONS)}, after it an "
            f"option."
        )
    if field in AXES:
        return field
    if field in NOT_TRAINED:
        raise UsageError(
            f"{name!r} cannot be the {where} of a study: it does not change what is trained. Set it once for all "
            f"trials."
        )
    examples = "batch_size, loss or generator_optimizer.lr"
    near = did_you_mean(field, [*AXES, *_OTHER_NAMES])
    raise UsageError(f"There is no {where} {name!r}.{near} It is a field of a recipe, such as {examples}.")


def field_of(axis: str) -> str:
    """The field of the recipe that an axis changes, with the option: `loss` is `losses`, `epochs` is `length`."""
    name, dot, option = axis.partition(".")
    if name in ("loss", "penalty", "augmentation"):
        return _FIELD_OF[name]
    return "length" if name in _UNITS else f"{name}{dot}{option}"


def parse_value(axis: str, given: Any, parse_dataset: ParseDataset = Choice.parse) -> Value:
    """A value of an axis, from its text or its value in a study file. Raises UsageError for one it cannot have."""
    if "." in axis:
        return _option_value(axis, given)
    if axis in ("architecture", "dataset", "generator_optimizer"):
        choice = parse_dataset(given) if axis == "dataset" else Choice.parse(given)
        return Value(choice, str(choice))
    if axis in _SUMS:
        return _sum_of_parts(axis, given)
    if axis in _UNITS:
        amount = Amount.parse(str(given), axis)
        return Value(amount, amount.count)
    if axis in _WHOLE:
        return Value(_whole(axis, given), _whole(axis, given))
    if axis in ("reuse_fakes", "joint_forward") and isinstance(given, str):
        given = {"true": True, "false": False}.get(given.lower(), given)
    merged = getattr(Recipe().merged({axis: given}), axis)  # raises for a value that no recipe can have
    if merged is None:
        return Value(None, "shared")
    return Value(merged, merged if isinstance(merged, bool | int | float | str) else str(merged))


def _option_value(axis: str, given: Any) -> Value:
    if isinstance(given, Mapping | list | tuple):
        raise UsageError(f"{axis} takes one value, not {given!r}.")
    label = _number(given) if isinstance(given, str) else given
    return Value(given, "none" if given is None else label)


def _number(text: str) -> Any:
    """The number in a text, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _whole(axis: str, given: Any) -> int:
    found = _number(given) if isinstance(given, str) else given
    if isinstance(found, bool) or not isinstance(found, int):
        raise UsageError(f"{axis} takes whole numbers, not {given!r}.")
    Recipe().merged({axis: found})
    return found


def _sum_of_parts(axis: str, given: Any) -> Value:
    """Parts that are joined: `wasserstein + gradient-penalty:weight=10`, or a list of parts; `none` for no part."""
    if isinstance(given, str):
        # a plus without spaces joins as well, but not in an exponent or a path
        texts = re.split(r"\s\+\s" if "/" in given or ".py:" in given else r"\s*\+\s*(?=[A-Za-z])", given.strip())
        given = [] if given.strip() in ("none", "") else texts
    items = given if isinstance(given, list | tuple) else [given]
    parts = tuple(Choice.parse(item) for item in items)
    if axis == "loss" and not parts:
        raise UsageError("loss takes at least one loss, not 'none'.")
    return Value(parts, " + ".join(map(str, parts)) or "none")


def recipe_with(
    zoo: Zoo,
    architecture: Choice,
    dataset: Choice,
    named: Recipe | str | None,
    fields: Mapping[str, Any],
    settings: Mapping[str, Value],
) -> Recipe:
    """The complete recipe with `settings`, values by the name of their axis. `fields` are values of recipe fields.

    Raises UsageError for a name, an option or a value that the recipe cannot have.
    """
    changes, options = dict(fields), dict[str, dict[str, Any]]()
    for axis, one in settings.items():
        name, _, option = axis.partition(".")
        if name in ("architecture", "dataset") and not option:
            continue
        if option:
            if name not in _SUMS:
                options.setdefault(name, {})[option] = one.value
        elif name != "penalty":
            changes["length" if name in _UNITS else _FIELD_OF.get(name, name)] = one.value
    recipe = plan(zoo, architecture, dataset, named, changes, options)
    if "penalty" in settings:
        added = tuple(zoo.resolve("losses", part) for part in settings["penalty"].value)
        kept = recipe.losses
        names = {short_name(part) for part in kept}
        if twice := [short_name(part) for part in added if short_name(part) in names]:
            raise UsageError(
                f"The recipe of {architecture} has {twice[0]!r} among its losses already: set it by `loss`, or "
                f"vary its options by loss.OPTION."
            )
        recipe = recipe.merged({"losses": (*kept, *added)})
    for axis, one in settings.items():
        name, _, option = axis.partition(".")
        if option and name in _SUMS:
            recipe = _with_option_of_sum(zoo, recipe, axis, one.value)
    return recipe


def _with_option_of_sum(zoo: Zoo, recipe: Recipe, axis: str, value: Any) -> Recipe:
    """The recipe with an option of its losses or augmentations set, in every one that has it."""
    name, _, option = axis.partition(".")
    field = _FIELD_OF[name]
    parts: tuple[Choice, ...] = getattr(recipe, field)
    known = [key for part in parts for key in part.options]
    if option not in known:
        names = ", ".join(map(short_name, parts)) or "none"
        raise UsageError(
            f"{axis}: no part of the {field} ({names}) has an option {option!r}.{did_you_mean(option, known)}"
        )
    kind = KIND_OF_FIELD[field]
    changed = [
        zoo.resolve(kind, Choice(part.name, {**part.options, option: value})) if option in part.options else part
        for part in parts
    ]
    return recipe.merged({field: tuple(changed)})


def with_options(choice: Choice, axis: str, settings: Mapping[str, Value]) -> Choice:
    """The choice of an axis with its options in `settings`: `digits` with dataset.size is `digits:size=8`."""
    prefix = f"{axis}."
    options = {name.removeprefix(prefix): one.value for name, one in settings.items() if name.startswith(prefix)}
    return Choice(choice.name, {**choice.options, **options}) if options else choice


def slug(axis: str, value: Value) -> str:
    """A value as a part of a directory's name: `hinge`, `batch-size32`, `lr0.0002`."""
    if axis in ("architecture", "dataset", "seed"):
        return ""
    if isinstance(value.value, tuple):
        text = "-".join(short_name(part) + _options_slug(part) for part in value.value) or f"no-{axis}"
    elif isinstance(value.value, Choice):
        text = short_name(value.value) + _options_slug(value.value)
    elif isinstance(value.value, Amount):
        text = f"{value.value.count}{value.value.unit}"
    elif isinstance(value.label, str) and not value.label[:1].isdigit():
        text = value.label
    else:
        short = {"generator_optimizer": "g-", "discriminator_optimizer": "d-"}.get(axis.partition(".")[0], "")
        text = f"{short}{axis.rpartition('.')[2]}{value.text}"
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _options_slug(choice: Choice) -> str:
    return "".join(f"-{key}{value}" for key, value in choice.options.items())


def recipe_digest(recipe: Recipe, parts: Mapping[str, Any] | None = None) -> str:
    """A digest of what a recipe trains: equal for runs that differ in their seed, their scores and what they save.

    `parts` is that entry of environment.json: parts of files count with the sha256 of their code.
    """
    fields = {name: value for name, value in recipe.to_dict().items() if name not in NOT_TRAINED}
    code = [
        (name, [part.get("sha256", "") for part in found if isinstance(part, Mapping)])
        for name, found in sorted((parts or {}).items())
        if name not in NOT_TRAINED and isinstance(found, list)
    ]
    return digest_of({"recipe": fields, "code": [pair for pair in code if any(pair[1])]})[:16]


def several(given: Any) -> Sequence[Any]:
    """One value or a list of values as a list."""
    return list(given) if isinstance(given, list | tuple) else [given]


def flat(recipe: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a recipe that change what is trained, and options of parts as `field.option`, all as text."""
    found: dict[str, str] = {}
    for name, value in recipe.items():
        if name in NOT_TRAINED:
            continue
        if isinstance(value, Mapping) and "name" in value:
            found[name] = str(value["name"])
            found |= {f"{name}.{option}": _text(inner) for option, inner in value.get("options", {}).items()}
        elif isinstance(value, list):
            found[name] = " + ".join(_part(item) for item in value) or "none"
        else:
            found[name] = _text(value)
    return found


def _part(value: Any) -> str:
    if not isinstance(value, Mapping):
        return _text(value)
    options = ",".join(f"{name}={_text(inner)}" for name, inner in value.get("options", {}).items())
    return f"{value.get('name')}:{options}" if options else str(value.get("name"))


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
