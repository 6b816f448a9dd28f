"""The grid: the requested trials, each with the complete recipe of its run.

A trial is one training of a grid: an architecture, a dataset and a seed.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ganzoo.contract.choice import Amount, Choice, short_name
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.protocol import Protocol
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.renamed_fields import with_old_names
from ganzoo.experiments.axes import Value, field_of, recipe_with, slug, with_options
from ganzoo.experiments.study import Study, excluded
from ganzoo.registry.zoo import Zoo
from ganzoo.results.runs import DEFAULT_EVALUATORS
from ganzoo.storage.files import digest_of

MOST_SEEDS = 1000
DEFAULT_SEEDS = "0,1,2"
#: letters of the values of axes in a directory's name
_LONGEST_WORDS = 60


class ExpectedScore(NamedTuple):
    """A score that a trial must have, and which direction is better ("lower" or "higher")."""

    #: the evaluator that computes it, as the user wrote it
    evaluator: str
    score: str
    better: str


@dataclass(frozen=True, eq=False)
class Trial:
    """One training of the grid."""

    #: as the user wrote them; the dataset with its options that are axes
    architecture: str
    dataset: str
    #: the scores that it must have to be done
    expected_scores: tuple[ExpectedScore, ...]
    #: complete, with its seed and its evaluators
    recipe: Recipe
    #: name of its directory: short names, the seed, and a digest of the recipe and of the code of its parts
    name: str
    #: the values of the axes of a study as tables show them, without architecture, dataset and seed
    axes: Mapping[str, Any] = field(default_factory=dict)
    #: the name of its row in a study; empty without named rows
    row: str = ""

    @property
    def configuration(self) -> tuple[Any, ...]:
        """What the trials of several seeds have in common: architecture, dataset, named row and values of axes."""
        return self.architecture, self.dataset, self.row, *self.axes.items()

    @property
    def data(self) -> Choice:
        """The dataset of its recipe."""
        assert self.recipe.dataset is not None  # noqa: S101  (the recipe of a trial is complete)
        return self.recipe.dataset


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds of a text such as `0,1,2` or `0..4`, sorted; a range includes both ends. Raises UsageError."""
    seeds: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\.\.(\d{1,9}))?\s*", word)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UsageError(f"--seeds {text!r}: {word.strip()!r} is no seed and no range; write 0,1,2 or 0..4.")
        if int(match[2] or match[1]) - int(match[1]) + len(seeds) >= MOST_SEEDS:
            raise UsageError(f"--seeds {text!r} are more than {MOST_SEEDS} seeds; 3 to 5 are usual.")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise UsageError(f"--seeds {text!r} contains the seed {twice[0]} twice.")
    return tuple(sorted(seeds))


def expand(zoo: Zoo, kind: str, choices: Sequence[Choice]) -> list[Choice]:
    """Replace every name with wildcards by all names it matches; each part once. Raises UsageError for no match."""
    found: dict[str, Choice] = {}
    for choice in choices:
        names = [choice.name]
        if not choice.is_location and set(choice.name) & set("*?["):
            names = fnmatch.filter(zoo.names(kind), choice.name)
            if not names:
                known = ", ".join(zoo.names(kind))
                hint = did_you_mean(re.sub(r"[*?\[\]]", "", choice.name), zoo.names(kind))
                raise UsageError(f"{choice.name!r} matches none of the {kind}.{hint} There are: {known}.")
        for expanded in (Choice(name, choice.options) for name in names):
            found.setdefault(str(zoo.resolve(kind, expanded)), expanded)
    return list(found.values())


def plan_study(zoo: Zoo, study: Study) -> list[Trial]:
    """All trials of a study, ordered by seed.

    Raises UsageError for an unknown name or option, a bad value, an exclusion that names no trial, and for two trials
    that are the same training.
    """
    chosen = tuple(expand(zoo, "evaluators", study.evaluators or DEFAULT_EVALUATORS))
    expected = expected_scores(zoo, list(zip(map(str, chosen), chosen, strict=True)))
    names = [one.score for one in expected]
    if duplicates := [name for name in names if names.count(name) > 1]:
        owners = " and ".join(one.evaluator for one in expected if one.score == duplicates[0])
        raise UsageError(f"{owners} both give the score {duplicates[0]!r}: name only one of them.")
    seeds = parse_seeds(study.seeds or DEFAULT_SEEDS)
    cells = _cells(zoo, study)
    labels = [
        {**cell.labels, "seed": Value(seed, seed)} for seed in seeds for cell in cells
    ]  # in the order of the trials
    kept = [not out for out in excluded(study, labels)]
    recipes = {
        place: _recipe_of(zoo, study, cell, chosen)
        for place, cell in enumerate(cells)
        if any(kept[place :: len(cells)])
    }
    trials = []
    for number, keep in enumerate(kept):
        seed, place = seeds[number // len(cells)], number % len(cells)
        if keep:
            cell, recipe = cells[place], recipes[place]
            axes = {name: _label(cell, recipe, name) for name in study.varied}
            free = [name for name in study.axes if name in cell.settings and name not in study.rows.get(cell.row, {})]
            words = [slug(name, cell.settings[name]) for name in free]
            texts = str(cell.architecture), str(cell.dataset)
            one = make_trial(zoo, *texts, expected, recipe.merged({"seed": seed}), axes, cell.row, words)
            trials.append(one)
    _refuse_same(trials)
    return trials


@dataclass(frozen=True)
class _Cell:
    """A combination of a study, without its seed."""

    architecture: Choice
    #: with its options that are axes
    dataset: Choice
    row: str
    settings: Mapping[str, Value]

    @property
    def labels(self) -> dict[str, Value]:
        """What an exclusion may name."""
        parts = {"architecture": self.architecture, "dataset": self.dataset}
        named = {"row": Value(self.row, self.row)} if self.row else {}
        return {**self.settings, **{name: Value(part, str(part)) for name, part in parts.items()}, **named}


def _cells(zoo: Zoo, study: Study) -> list[_Cell]:
    """All combinations of a study, in the order of datasets, architectures, rows and axes."""
    own = {"architecture": study.architectures, "dataset": study.datasets}
    found: list[tuple[tuple[int, int, int], _Cell]] = []
    orders: dict[str, list[str]] = {"architecture": [], "dataset": []}
    for place, (row, settings) in enumerate(study.combinations()):
        parts = {}
        for kind, given in own.items():
            choices = [settings[kind].value] if kind in settings else given
            if not choices:
                raise UsageError(
                    "A grid needs at least one architecture (-a) and one dataset (-d)."
                    + (f" The row {row!r} names no {kind}." if row else "")
                )
            parts[kind] = expand(zoo, f"{kind}s", choices)
            orders[kind] += [text for text in map(str, parts[kind]) if text not in orders[kind]]
        for dataset in parts["dataset"]:
            for architecture in parts["architecture"]:
                order = orders["dataset"].index(str(dataset)), orders["architecture"].index(str(architecture)), place
                found.append((order, _Cell(architecture, with_options(dataset, "dataset", settings), row, settings)))
    return [cell for _, cell in sorted(found, key=lambda item: item[0])]


def _recipe_of(zoo: Zoo, study: Study, cell: _Cell, evaluators: tuple[Choice, ...]) -> Recipe:
    """The recipe of a combination, with the seed of the recipe."""
    fields = {**study.fields, "evaluators": evaluators}
    prescribed = Protocol.named(fields.get("protocol", "default")).length
    own_length = "length" in fields or any(name in cell.settings for name in ("epochs", "images", "steps", "length"))
    if prescribed and not own_length:
        fields["length"] = Amount.parse(prescribed)
    base = recipe_with(zoo, cell.architecture, cell.dataset, study.recipe, fields, cell.settings)
    if "score_every" not in fields:
        # a few scores during the run, because the best one may be early
        base = base.merged({"score_every": share(base.length, 4)})
    return base


def _label(cell: _Cell, recipe: Recipe, axis: str) -> Any:
    """The value of an axis for tables: as the study has it, or the one of the recipe where this row does not set it."""
    if axis in cell.settings:
        return cell.settings[axis].label
    name, _, option = axis.partition(".")
    if name == "penalty" and not option:
        return "none"
    value = getattr(recipe, field_of(name))
    parts = value if isinstance(value, tuple) else (value,)
    if option:
        return next((part.options[option] for part in parts if part and option in part.options), "-")
    if isinstance(value, tuple):
        return " + ".join(map(short_name, value)) or "none"
    if isinstance(value, Choice):
        return short_name(value)
    return value if isinstance(value, bool | int | float) else "shared" if value is None else str(value)


def _refuse_same(trials: Sequence[Trial]) -> None:
    """Raise UsageError where two trials are the same training, because they would share one directory."""
    known: dict[str, Trial] = {}
    for trial in trials:
        digest = trial.name.rpartition("-")[2] + digest_of(trial.recipe.to_dict())
        if digest in known:
            first, second = _description(known[digest]), _description(trial)
            raise UsageError(f"Two combinations of the study are the same training: {first}, and {second}.")
        known[digest] = trial


def _description(trial: Trial) -> str:
    values = [f"{name}={value}" for name, value in trial.axes.items()]
    row = [f"row {trial.row!r}"] if trial.row else []
    return f"{trial.architecture} on {trial.dataset} ({', '.join([*row, *values]) or 'no axis'})"


def named_as_in(trials: Sequence[Trial], out: Path) -> list[Trial]:
    """The trials with the directory names that the folder `out` has for the same recipe and seed.

    So an axis or a named row that is added to a study does not train again what is trained.
    """
    ends = {}
    for path in (out / "cells").glob("*-seed*-*"):
        ends["-".join(path.name.rsplit("-", 2)[1:])] = path.name
    found = []
    for trial in trials:
        name = ends.get("-".join(trial.name.rsplit("-", 2)[1:]), trial.name)
        found.append(trial if name == trial.name else dataclasses.replace(trial, name=name))
    return found


def expected_scores(zoo: Zoo, evaluators: Sequence[tuple[str, Choice]]) -> tuple[ExpectedScore, ...]:
    """All scores of these evaluators; each evaluator is given as (text of the user, choice)."""
    built = [(text, zoo.build("evaluators", choice)) for text, choice in evaluators]
    return tuple(
        ExpectedScore(text, name, score.better) for text, evaluator in built for name, score in evaluator.scores.items()
    )


def share(length: Amount, parts: int) -> Amount:
    """The length divided by `parts`, rounded up, in the same unit."""
    return Amount(-(-length.count // parts), length.unit)


def make_trial(
    zoo: Zoo,
    architecture: str,
    dataset: str,
    expected: tuple[ExpectedScore, ...],
    recipe: Recipe,
    axes: Mapping[str, Any] | None = None,
    row: str = "",
    words: Sequence[str] = (),
) -> Trial:
    """The trial of a complete recipe; `architecture` and `dataset` are as the user wrote them.

    `words` describe the values of axes in the name of its directory.
    """
    digest = digest_of({"recipe": with_old_names(recipe.to_dict()), "parts": _provenance(zoo, recipe)})
    parts = short_name(recipe.architecture), short_name(recipe.dataset)
    middle = re.sub(r"[^a-z0-9.]+", "-", "-".join(filter(None, (row.lower(), *words)))).strip("-.")
    middle = middle[:_LONGEST_WORDS].rstrip("-.")
    name = "-".join(filter(None, (*parts, middle, f"seed{recipe.seed}", digest[:8])))
    return Trial(architecture, dataset, expected, recipe, name.lower(), dict(axes or {}), row)


def _provenance(zoo: Zoo, recipe: Recipe) -> list[dict[str, str]]:
    """Origin and digest of the code of all parts that affect the scores. They are part of the trial's name."""
    found = []
    for name, kind in KIND_OF_FIELD.items():
        if name != "observers":  # they do not affect the training
            value = getattr(recipe, name)
            choices = value if isinstance(value, tuple) else (value,)
            found += [zoo.provenance(kind, choice) for choice in choices if choice]
    return found
