"""From keywords, or options of the command line, to the recipe of a run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.api.keywords import (
    Part,
    RecipeOptions,
    check_keywords,
    dataset_choice,
    keywords_of,
    length_of,
    parts,
)
from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.errors import UsageError
from ganzoo.contract.protocol import check_samples
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.renamed_fields import renaming_note, with_current_names

if TYPE_CHECKING:
    from typing import Unpack

#: keyword -> the recipe field of another name
_FIELD_OF = {
    "loss": "losses",
    "augmentation": "augmentations",
    "observer": "observers",
    "evaluator": "evaluators",
    "samples": "score_samples",
}
#: keywords that take one part or several
_SEVERAL = ("loss", "augmentation", "observer", "evaluator")
#: the fields of a recipe whose options `field.key` may set
_FIELDS = ("architecture", "dataset", "generator_optimizer", "discriminator_optimizer")


@keywords_of(RecipeOptions)
def plan(architecture: Part | None = None, dataset: Part | None = None, **keywords: Unpack[RecipeOptions]) -> Recipe:
    """The complete recipe that `ganzoo.train` would run with the same arguments. Nothing is trained.

    With a `ganzoo.Recipe`, the directory of a run or its recipe.json as `recipe`, the architecture and the dataset may
    be left out: they are then the recipe's.
    Raises UsageError for a name, an option or a value that no recipe can have.
    """
    check_keywords(plan, keywords)
    given: dict[str, Any] = dict(keywords)
    named = given.pop("recipe", None)
    if isinstance(named, str | Path) and (architecture is None or dataset is None):
        named = _recipe_of_run(Path(named)) or named
    if isinstance(named, Recipe):
        architecture, dataset = architecture or named.architecture, dataset or named.dataset
    chosen: dict[str, Choice] = {}
    for name, part in (("architecture", architecture), ("dataset", dataset)):
        if part is None:
            raise UsageError(f"Name the {name}, or give a recipe= that is a ganzoo.Recipe with one, or a run.")
        chosen[name] = dataset_choice(part) if name == "dataset" else Choice.parse(part)
    shared = given.get("discriminator_optimizer") == "shared"
    for name in _FIELDS[2:]:
        part = given.pop(name, None)
        if part is not None and not (shared and name == "discriminator_optimizer"):
            chosen[name] = _optimizer(name, part)
    length = length_of(*(given.pop(unit, None) for unit in ("epochs", "images", "steps")))
    options = given.pop("options", None) or {}
    changes = {_FIELD_OF.get(name, name): _field(name, value) for name, value in given.items() if value is not None}
    try:
        return recipe_from_options(chosen, options, named, length, shared, changes)
    except UsageError as error:
        raise (_swapped(chosen) or error) from None


def _swapped(chosen: Mapping[str, Choice]) -> UsageError | None:
    """The error of a dataset in the place of the architecture, and the other way round; None where they are not."""
    from ganzoo.registry.zoo import zoo

    architecture, dataset = chosen["architecture"], chosen["dataset"]
    names = {kind: set(zoo().names(kind)) for kind in ("architectures", "datasets")}
    if architecture.name not in names["datasets"] or dataset.name not in names["architectures"]:
        return None
    return UsageError(
        f"{architecture.name} is a dataset and {dataset.name} an architecture: swap the two, `ganzoo train "
        f"{shlex.quote(str(dataset))} {shlex.quote(str(architecture))}`."
    )


def _optimizer(name: str, part: Part) -> Choice:
    """The choice of an optimizer. Raises UsageError for the word "shared" where it has no meaning."""
    choice = Choice.parse(part)
    if choice.name.lower() == "shared":
        raise UsageError(
            f"{name}={str(choice)!r}: only the discriminator's optimizer can be shared, and it then has no options; "
            f"write discriminator_optimizer=shared, and set the options of the generator's optimizer."
        )
    return choice


def _field(name: str, value: Any) -> Any:
    """The value of a recipe field for a keyword's value."""
    if name in _SEVERAL:
        return parts(value)
    if name == "grid" and not isinstance(value, str):
        return "x".join(map(str, value))
    if hasattr(value, "__index__") and not isinstance(value, bool):
        value = index(value)  # a NumPy integer, say
    if name == "samples":
        check_samples(value)
    return value


def recipe_from_options(
    given: Mapping[str, Choice],
    options: Mapping[str, Any],
    named: Recipe | str | Path | None,
    length: Amount | None,
    shared: bool,
    changes: Mapping[str, Any],
) -> Recipe:
    """The complete recipe of these parts and changes.

    `given` holds the named parts by recipe field, `options` the options of parts by key or `part.key`, `named` the
    recipe to start from, and `changes` values of recipe fields; None there changes nothing. With `shared` the
    generator's optimiser serves both networks.
    """
    from ganzoo.registry.guard import print_to_stderr
    from ganzoo.registry.recipes import plan as complete
    from ganzoo.registry.recipes import read_recipe
    from ganzoo.registry.zoo import zoo

    named = str(named) if isinstance(named, Path) else named
    given_fields = {name: value for name, value in changes.items() if value is not None}
    fields = with_current_names(given_fields)
    in_file = read_recipe(Path(named)) if isinstance(named, str) and _is_recipe_file(named) else {}
    if note := renaming_note({**in_file, **given_fields}):
        print_to_stderr(note)
    if length:
        fields["length"] = length
    fields |= {name: given[name] for name in _FIELDS[2:] if name in given}
    by_field = _by_field(options)
    if shared:
        fields["discriminator_optimizer"] = None
    return complete(zoo(), given["architecture"], given["dataset"], named, fields, by_field)


def _is_recipe_file(named: str) -> bool:
    return named.endswith((".toml", ".json")) and Path(named).is_file()


def _recipe_of_run(path: Path) -> Recipe | None:
    """The recipe in the directory of a run, or in its recipe.json; None for another path."""
    file = path / "recipe.json" if path.is_dir() else path
    return Recipe.from_dict(Recipe.read_json(file)) if file.suffix == ".json" and file.is_file() else None


def _by_field(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options by the recipe field whose part they belong to. A key without a dot belongs to the architecture."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        field, dot, option = key.partition(".")
        field, option = (field, option) if dot else ("architecture", key)
        if field not in _FIELDS:
            raise UsageError(
                f"-o {key}: options belong to one of {', '.join(_FIELDS)}; the architecture needs no prefix."
            )
        found.setdefault(field, {})[option] = os.fspath(value) if isinstance(value, os.PathLike) else value
    return found
