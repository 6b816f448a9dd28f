"""A study: what a benchmark varies, from a file in TOML, a mapping, or options of the command line.

architectures = ["dcgan-tutorial", "mlp-vanilla"]
datasets = ["digits"]
seeds = "0..4"
epochs = 20

[axes]                                  # every combination of these values is a trial
loss = ["hinge", "wasserstein + gradient-penalty:weight=10"]
generator_optimizer.lr = [1e-4, 2e-4]

[[rows]]                                # named rows: several fields together, in place of the axes of these fields
name = "ttur"
generator_optimizer.lr = 1e-4
discriminator_optimizer.lr = 4e-4

[[exclude]]                             # combinations that are left out
architecture = "mlp-vanilla"
loss = "wasserstein*"
"""

from __future__ import annotations

import fnmatch
import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.recipe import Recipe
from ganzoo.experiments.axes import (
    AXES,
    NOT_TRAINED,
    ParseDataset,
    Value,
    axis_named,
    parse_value,
    several,
)

_UNITS = ("epochs", "images", "steps", "length")
#: keys of a study that are neither an axis nor a field of a recipe
_TABLES = ("axes", "rows", "exclude", "space")
_PLAIN = ("recipe", "check_seeds")
_PARTS = ("architecture", "dataset", "evaluators")
#: other names of keys at the top of a study
_OTHER_KEYS = {
    "architectures": "architecture",
    "datasets": "dataset",
    "evaluator": "evaluators",
    "seeds": "seed",
    "samples": "score_samples",
}
_INTERVALS = ("score_every", "tick_every", "samples_every", "checkpoint_every")


@dataclass
class Study:
    """What varies, and what all trials share. Every name of an axis is the one of `axis_named`."""

    architectures: list[Choice] = field(default_factory=list)
    datasets: list[Choice] = field(default_factory=list)
    evaluators: list[Choice] = field(default_factory=list)
    #: as `parse_seeds` reads them; empty: the default
    seeds: str = ""
    #: a recipe, a recipe file, or the name of a variant
    recipe: Recipe | str | None = None
    #: fields of every recipe that do not change what is trained
    fields: dict[str, Any] = field(default_factory=dict)
    #: values that all trials have
    fixed: dict[str, Value] = field(default_factory=dict)
    axes: dict[str, list[Value]] = field(default_factory=dict)
    rows: dict[str, dict[str, Value]] = field(default_factory=dict)
    exclude: list[dict[str, list[Any]]] = field(default_factory=list)
    #: of `ganzoo tune`: the space that is searched, as written, and the seeds of the second scoring
    space: dict[str, Any] = field(default_factory=dict)
    check_seeds: str = ""

    def changed_by(self, other: Study) -> Study:
        """This study with everything replaced that `other` sets."""
        names = {*other.fixed, *other.axes}
        if any(name in _UNITS for name in names):
            names |= {*_UNITS}
        kept_fixed = {name: value for name, value in self.fixed.items() if name not in names}
        kept_axes = {name: values for name, values in self.axes.items() if name not in names}
        return Study(
            architectures=other.architectures or self.architectures,
            datasets=other.datasets or self.datasets,
            evaluators=other.evaluators or self.evaluators,
            seeds=other.seeds or self.seeds,
            recipe=other.recipe if other.recipe is not None else self.recipe,
            fields=self.fields | other.fields,
            fixed=kept_fixed | other.fixed,
            axes=kept_axes | other.axes,
            rows=other.rows or self.rows,
            exclude=other.exclude or self.exclude,
            space=other.space or self.space,
            check_seeds=other.check_seeds or self.check_seeds,
        )

    @property
    def varied(self) -> list[str]:
        """The names of everything that is an axis or is set by a named row, without architecture and dataset."""
        names = [*self.axes, *(name for row in self.rows.values() for name in row)]
        return [name for name in dict.fromkeys(names) if name not in ("architecture", "dataset")]

    def combinations(self) -> Iterator[tuple[str, dict[str, Value]]]:
        """(name of the row or empty, values by axis): every row with every combination of the axes it does not set."""
        for name, row in (self.rows or {"": {}}).items():
            free = {axis: values for axis, values in self.axes.items() if not _sets(row, axis)}
            shared = {axis: value for axis, value in self.fixed.items() if not _sets(row, axis)}
            for values in itertools.product(*free.values()):
                yield name, {**shared, **dict(zip(free, values, strict=True)), **row}


def _sets(row: Mapping[str, Value], axis: str) -> bool:
    return axis in row or (axis in _UNITS and any(name in _UNITS for name in row))


def read_study(path: Path, parse_dataset: ParseDataset = Choice.parse) -> Study:
    """The study in a TOML file. Raises UsageError, which begins with the path, for anything that is wrong in it."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The study {path} cannot be read: {error.strerror or error}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a study in TOML: {error}.") from None
    try:
        return parse_study(found, parse_dataset)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def parse_study(found: Mapping[str, Any], parse_dataset: ParseDataset = Choice.parse) -> Study:
    """The study in a mapping with the keys of a study file. Raises UsageError for a wrong name or value."""
    study = Study()
    for key, given in _flat(found, _TABLES).items():
        name = _OTHER_KEYS.get(key, key)
        if name in _TABLES or given is None:
            continue
        if name in _PARTS:
            parse = parse_dataset if name == "dataset" else Choice.parse
            setattr(study, f"{name.removesuffix('s')}s", [parse(item) for item in several(given)])
            if not several(given):
                raise UsageError(f"{key} is empty: name at least one.")
        elif name in ("seed", "check_seeds"):
            setattr(study, "seeds" if name == "seed" else name, seeds_text(given))
        elif name == "recipe":
            study.recipe = given if isinstance(given, Recipe) else str(given)
        elif name in NOT_TRAINED:
            study.fields[name] = _field(name, given)
        else:
            _set_once(study, key, given, parse_dataset)
    for key, values in _flat(_table(found, "axes")).items():
        axis = _new(axis_named(key), study.axes, "axis")
        study.axes[axis] = _values(axis, values, parse_dataset)
    study.rows = _rows(found.get("rows") or {}, parse_dataset)
    study.exclude = [_exclusion(one) for one in _tables(found, "exclude")]
    study.space = dict(_flat(_table(found, "space"), inner=("low", "high", "choices")))
    return _without_conflicts(study)


def _table(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = found.get(key) or {}
    if not isinstance(table, Mapping):
        raise UsageError(f"{key} is a table of names and values, written below [{key}].")
    return table


def _tables(found: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    tables = found.get(key) or []
    tables = [tables] if isinstance(tables, Mapping) else tables
    if not isinstance(tables, list | tuple) or not all(isinstance(one, Mapping) for one in tables):
        raise UsageError(f"{key} is a list of tables, each written below [[{key}]].")
    return list(tables)


def _flat(found: Mapping[str, Any], kept: Sequence[str] = (), inner: Sequence[str] = ()) -> dict[str, Any]:
    """Nested tables as dotted names, `generator_optimizer.lr`. Parts, `{name, options}`, and tables in `kept` stay."""
    flat: dict[str, Any] = {}
    for key, value in found.items():
        nested = isinstance(value, Mapping) and "name" not in value and key not in kept
        if nested and not set(value) & set(inner):
            if not value:
                raise UsageError(f"{key} is an empty table.")
            flat |= {f"{key}.{option}": one for option, one in value.items()}
        else:
            flat[key] = value
    return flat


def _set_once(study: Study, key: str, given: Any, parse_dataset: ParseDataset) -> None:
    """A value at the top of a study, which all trials have."""
    try:
        axis = axis_named(key, "key")
    except UsageError:
        known = [*_TABLES, *_PLAIN, *_OTHER_KEYS, *AXES, *NOT_TRAINED]
        if "." in key or did_you_mean(key, known) == "":
            raise
        raise UsageError(f"A study has no key {key!r}.{did_you_mean(key, known)}") from None
    if isinstance(given, list | tuple) and axis not in ("loss", "penalty", "augmentation"):
        raise UsageError(f"{key} takes one value here; several values are an axis: write them below [axes].")
    study.fixed[_new(axis, study.fixed, "key")] = parse_value(axis, given, parse_dataset)


def _values(axis: str, given: Any, parse_dataset: ParseDataset) -> list[Value]:
    items = several(given)
    if not items:
        raise UsageError(f"The axis {axis} is empty: give it at least one value, or remove it.")
    if axis == "seed":
        return [Value(seeds_text(given), seeds_text(given))]
    values = [parse_value(axis, item, parse_dataset) for item in items]
    texts = [value.text for value in values]
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise UsageError(f"The axis {axis} has the value {twice[0]} twice.")
    return values


def _new(name: str, known: Mapping[str, Any], what: str) -> str:
    if name in known:
        raise UsageError(f"The {what} {name} is set twice, under two of its names.")
    return name


def _rows(given: Any, parse_dataset: ParseDataset) -> dict[str, dict[str, Value]]:
    """Named rows, from tables with a `name`, or from a table of tables by name."""
    if isinstance(given, Mapping) and all(isinstance(one, Mapping) for one in given.values()):
        named = [(str(name), dict(fields)) for name, fields in given.items()]
    else:
        tables = _tables({"rows": given}, "rows")
        named = [(str(one.get("name") or ""), {k: v for k, v in one.items() if k != "name"}) for one in tables]
    rows: dict[str, dict[str, Value]] = {}
    for name, fields in named:
        if not name.strip():
            raise UsageError('Every one of the [[rows]] needs a name of its own: name = "...".')
        if name in rows:
            raise UsageError(f"Two rows are called {name!r}: a row needs a name of its own.")
        rows[name] = {}
        for key, value in _flat(fields).items():
            axis = _new(axis_named(key, f"field of the row {name!r}"), rows[name], "field")
            if axis == "seed":
                raise UsageError(f"The row {name!r} cannot set the seed: seeds are the same for all rows.")
            rows[name][axis] = parse_value(axis, value, parse_dataset)
    return rows


def _exclusion(given: Mapping[str, Any]) -> dict[str, list[Any]]:
    found = {}
    for key, value in _flat(given).items():
        name = key if key == "row" else axis_named(key, "field to exclude by")
        # a list of parts is a list of patterns here
        found[name] = list(several(value))
    if not found or not all(found.values()):
        raise UsageError("An exclusion is empty: write below [[exclude]] what the trials to leave out have in common.")
    return found


def _without_conflicts(study: Study) -> Study:
    """Move axes of architectures, datasets and seeds to their places, and refuse what is set in two of them."""
    for axis, attribute in (("architecture", "architectures"), ("dataset", "datasets"), ("seed", "seeds")):
        if axis in study.axes:
            if getattr(study, attribute):
                raise UsageError(f"{attribute} are given at the top of the study and as an axis: keep one of the two.")
            values = [value.value for value in study.axes.pop(axis)]
            setattr(study, attribute, values[0] if axis == "seed" else values)
    for name in study.fixed:
        if name in study.axes:
            raise UsageError(f"{name} is an axis and has a value for all trials as well: keep one of the two.")
    lengths = [name for name in (*study.fixed, *study.axes) if name in _UNITS]
    if len(lengths) > 1:
        raise UsageError(f"{lengths[0]} and {lengths[1]} both set the length; give one of them.")
    return study


def seeds_text(given: Any) -> str:
    """Seeds as `parse_seeds` reads them: `0..4`, or a list of numbers."""
    if isinstance(given, str | int) and not isinstance(given, bool):
        return str(given)
    items = list(given) if hasattr(given, "__iter__") and not isinstance(given, Mapping) else []
    if not items:
        raise UsageError(f'seeds are written "0..4" or [0, 1, 2], not {given!r}.')
    return ",".join(str(item) for item in items)


def _field(name: str, given: Any) -> Any:
    """A field of every recipe that does not change what is trained, as a recipe takes it."""
    if name in _INTERVALS:
        return given if isinstance(given, Amount) else str(given)
    return given


# --- exclusions -------------------------------------------------------------------------------------------------------

#: the labels of a trial by axis, with `row`, `architecture`, `dataset` and `seed`
Labels = Mapping[str, Value]


def excluded(study: Study, trials: Sequence[Labels]) -> list[bool]:
    """For each trial whether an exclusion names it.

    Raises UsageError for an exclusion that names none of them, with the nearest value, and where no trial is left.
    """
    out = [False] * len(trials)
    for one in study.exclude:
        hit = [all(_matches(trial.get(axis), patterns) for axis, patterns in one.items()) for trial in trials]
        if not any(hit):
            raise UsageError(_excludes_nothing(one, trials))
        out = [before or now for before, now in zip(out, hit, strict=True)]
    if trials and all(out):
        raise UsageError("The exclusions leave no trial: remove one of them.")
    return out


def _matches(value: Value | None, patterns: Sequence[Any]) -> bool:
    return value is not None and any(_matches_one(value, pattern) for pattern in patterns)


def _matches_one(value: Value, pattern: Any) -> bool:
    if isinstance(value.label, int | float) and not isinstance(value.label, bool):
        try:
            return float(pattern) == float(value.label)
        except (TypeError, ValueError):
            return fnmatch.fnmatchcase(value.text, str(pattern))
    text = str(pattern).lower() if isinstance(pattern, bool) else str(pattern)
    # a part without its options is the part with any options
    return fnmatch.fnmatchcase(value.text, text) or value.text.partition(":")[0] == text


def _excludes_nothing(one: Mapping[str, Sequence[Any]], trials: Sequence[Labels]) -> str:
    words = ", ".join(f"{axis} = {' or '.join(map(str, patterns))}" for axis, patterns in one.items())
    for axis, patterns in one.items():
        values = list(dict.fromkeys(trial[axis].text for trial in trials if axis in trial))
        if not values:
            varied = ", ".join(dict.fromkeys(name for trial in trials for name in trial))
            return f"The exclusion {words} excludes nothing: {axis} does not vary here; what varies is {varied}."
        if not any(_matches(trial.get(axis), patterns) for trial in trials):
            near = did_you_mean(str(patterns[0]), values)
            return f"The exclusion {words} excludes nothing.{near} {axis} is one of: {', '.join(values)}."
    return f"The exclusion {words} excludes nothing: no trial has all of it."
