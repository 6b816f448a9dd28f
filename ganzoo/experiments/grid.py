"""The grid: the requested trials, each with the complete recipe of its run.

A trial is one training of a grid: an architecture, a dataset and a seed.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ganzoo.contract.choice import Amount, Choice, short_name
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.protocol import Protocol
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.renamed_fields import with_old_names
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.files import digest_of

MOST_SEEDS = 1000


class ExpectedScore(NamedTuple):
    """A score that a trial must have, and which direction is better ("lower" or "higher")."""

    #: the evaluator that computes it, as the user wrote it
    evaluator: str
    score: str
    better: str


@dataclass(frozen=True, eq=False)
class Trial:
    """One training of the grid."""

    #: as the user wrote them
    architecture: str
    dataset: str
    #: the scores that it must have to be done
    expected_scores: tuple[ExpectedScore, ...]
    #: complete, with its seed and its evaluators
    recipe: Recipe
    #: name of its directory: short names, the seed, and a digest of the recipe and of the code of its parts
    name: str

    @property
    def pair(self) -> tuple[str, str]:
        """Architecture and dataset: what the trials of several seeds have in common."""
        return self.architecture, self.dataset

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


def plan_trials(
    zoo: Zoo,
    architectures: Sequence[Choice],
    datasets: Sequence[Choice],
    evaluators: Sequence[Choice],
    seeds: Sequence[int],
    named: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[Trial]:
    """All trials of the grid, ordered by seed: the first table has one seed for every pair.

    `named` is the path of a recipe file, or the name of a variant that every architecture has. `changes` are fields of
    the recipes. Raises UsageError for an unknown name or option, and for a bad value.
    """
    chosen = tuple(expand(zoo, "evaluators", evaluators))
    fields = {**(changes or {}), "evaluators": chosen}
    prescribed = Protocol.named(fields.get("protocol", "default")).length
    if prescribed and "length" not in fields:
        fields["length"] = Amount.parse(prescribed)
    bases = []
    for dataset in expand(zoo, "datasets", datasets):
        for architecture in expand(zoo, "architectures", architectures):
            base = plan(zoo, architecture, dataset, named, fields)
            if "score_every" not in fields:
                # a few scores during the run, because the best one may be early
                base = base.merged({"score_every": share(base.length, 4)})
            bases.append((str(architecture), str(dataset), base))
    expected = expected_scores(zoo, list(zip(map(str, chosen), chosen, strict=True)))
    names = [one.score for one in expected]
    if duplicates := [name for name in names if names.count(name) > 1]:
        owners = " and ".join(one.evaluator for one in expected if one.score == duplicates[0])
        raise UsageError(f"{owners} both give the score {duplicates[0]!r}: name only one of them.")
    return [
        make_trial(zoo, architecture_text, dataset_text, expected, base.merged({"seed": seed}))
        for seed in seeds
        for architecture_text, dataset_text, base in bases
    ]


def expected_scores(zoo: Zoo, evaluators: Sequence[tuple[str, Choice]]) -> tuple[ExpectedScore, ...]:
    """All scores of these evaluators; each evaluator is given as (text of the user, choice)."""
    built = [(text, zoo.build("evaluators", choice)) for text, choice in evaluators]
    return tuple(
        ExpectedScore(text, name, score.better) for text, evaluator in built for name, score in evaluator.scores.items()
    )


def share(length: Amount, parts: int) -> Amount:
    """The length divided by `parts`, rounded up, in the same unit."""
    return Amount(-(-length.count // parts), length.unit)


def make_trial(zoo: Zoo, architecture: str, dataset: str, expected: tuple[ExpectedScore, ...], recipe: Recipe) -> Trial:
    """The trial of a complete recipe; `architecture` and `dataset` are as the user wrote them."""
    digest = digest_of({"recipe": with_old_names(recipe.to_dict()), "parts": _provenance(zoo, recipe)})
    words = (short_name(recipe.architecture), short_name(recipe.dataset), f"seed{recipe.seed}", digest[:8])
    return Trial(architecture, dataset, expected, recipe, "-".join(words).lower())


def _provenance(zoo: Zoo, recipe: Recipe) -> list[dict[str, str]]:
    """Origin and digest of the code of all parts that affect the scores. They are part of the trial's name."""
    found = []
    for field, kind in KIND_OF_FIELD.items():
        if field != "observers":  # they do not affect the training
            value = getattr(recipe, field)
            choices = value if isinstance(value, tuple) else (value,)
            found += [zoo.provenance(kind, choice) for choice in choices if choice]
    return found
