"""Whether recipe.json still is the recipe that a run was trained with.

Checkpoints and generators hold the recipe of their training, under their own digests. Where recipe.json differs, it
was edited or damaged: what the numbers of the training depend on is refused, other fields are accepted with a note.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.storage.files import parse_json

#: fields that can change without changing a weight: how long, what is shown and what is measured
FREE_FIELDS = (
    *("length", "tick_every", "samples_every", "checkpoint_every", "score_every", "grid"),
    *("observers", "evaluators", "protocol", "score_samples", "best_by", "early_stop"),
)


def recipe_text(recipe: Recipe, length: bool = True) -> str:
    """The recipe as JSON text, to be kept in a checkpoint; without its length if a longer run has the same file."""
    return json.dumps({name: value for name, value in recipe.to_dict().items() if length or name != "length"})


def check_recipe(
    path: Path, recipe: Recipe, then: Any, kept_in: str, changes: Iterable[Mapping[str, Any]] = ()
) -> list[str]:
    """Compare the recipe of the run in `path` with the kept text `then`. Returns a note for each accepted difference.

    `changes` are the fields with the values that `ganzoo resume --set` gave them: these are no differences.
    Earlier versions kept none (`then` is None): nothing is compared. Raises GanzooError, with the fields that differ,
    where it is another training.
    """
    if then is None:
        return []
    old, new = _fields(then, path, kept_in), recipe.to_dict()
    differing = [
        name
        for name in differing_fields(old, new)
        if not any(name in change and change[name] == new.get(name, "") for change in changes)
    ]
    refused = [name for name in differing if name not in FREE_FIELDS and not _moved(name, old[name], new[name])]
    if refused:
        words = "; ".join(f"{name} is {_text(new[name])}, it was {_text(old[name])}" for name in refused)
        raise GanzooError(
            f"{path / 'recipe.json'} is not the recipe that {kept_in} was trained with ({words}): put the old "
            f"{'value' if len(refused) == 1 else 'values'} back, or train the new recipe as a new run."
        )
    return [
        f"{path / 'recipe.json'} has changed: {name} is {_text(new.get(name, ''))}, in {kept_in} it was "
        f"{_text(old.get(name, ''))}."
        for name in differing
    ]


def differing_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields that differ between two recipes in their JSON form. A kept recipe may have no `length`."""
    names = [name for name in {**new, **old} if name in old or name == "early_stop"]
    return [name for name in names if old.get(name, "") != new.get(name, "")]


def differences_in_words(recipe: Recipe, other: Recipe) -> str:
    """The fields in which `recipe` differs from the `other`, in words; empty where they are the same."""
    new, old = recipe.to_dict(), other.to_dict()
    names = differing_fields(old, new)
    return "; ".join(f"{name} is {_text(new.get(name, ''))}, there it is {_text(old.get(name, ''))}" for name in names)


def recorded_changes(history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The changes in the content of a history.json: field -> new value for each. None where they cannot be read."""
    try:
        return [{name: made["to"] for name, made in one["fields"].items()} for one in history.get("changes", ())]
    except (KeyError, TypeError, AttributeError):
        return []


def changes_since(path: Path, recipe: Recipe, then: Any, kept_in: str) -> dict[str, dict[str, Any]]:
    """Field -> {"from": ..., "to": ...} for each field in which the recipe differs from the kept text `then`.

    Without its length, which has a history of its own, and without parts that were only moved.
    """
    if then is None:
        return {}
    old, new = _fields(then, path, kept_in), recipe.to_dict()
    return {
        name: {"from": old.get(name, ""), "to": new.get(name, "")}
        for name in differing_fields(old, new)
        if name != "length" and not _moved(name, old.get(name), new.get(name))
    }


def _fields(text: Any, path: Path, kept_in: str) -> dict[str, Any]:
    """The fields of a recipe that was kept, with current names, and defaults for those that are newer."""
    try:
        given = with_current_names(dict(parse_json(text)))
        fields = Recipe.from_dict(given).to_dict()
    except (ValueError, TypeError, UsageError) as error:
        raise GanzooError(f"The recipe kept in {kept_in} of {path} cannot be read: {error}") from None
    return {name: value for name, value in fields.items() if name != "length" or "length" in given}


def _moved(name: str, then: Any, now: Any) -> bool:
    """Whether only the place of a file has changed: of code or of data, both of which have digests of their own."""
    if name not in KIND_OF_FIELD or None in (then, now):
        return False
    old, new = ([Choice.parse(one) for one in (value if isinstance(value, list) else [value])] for value in (then, now))
    return len(old) == len(new) and all(_same_part(name, *pair) for pair in zip(old, new, strict=True))


def _same_part(field: str, one: Choice, other: Choice) -> bool:
    """Whether two choices differ only in the folders of a file, in the path of a dataset or in `distribution/` before
    a name: the distribution that was used is in environment.json."""
    (before, name), (after, same) = (choice.name.rpartition("/")[::2] for choice in (one, other))
    files = one.is_location, other.is_location
    if not files[0]:
        before, after = canonicalize_name(before), canonicalize_name(after)
    if name != same or files[0] != files[1] or (not files[0] and before and after and before != after):
        return False
    options = [{k: v for k, v in c.options.items() if (field, k) != ("dataset", "path")} for c in (one, other)]
    return options[0] == options[1]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
