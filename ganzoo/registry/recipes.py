"""Recipes: an architecture's own, a file or a named variant, and changes become one complete recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.registry.zoo import Zoo


def plan(
    zoo: Zoo,
    architecture: Choice,
    dataset: Choice,
    named: Recipe | str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Recipe:
    """The architecture's own recipe <- a recipe, a recipe file or a named variant, if any <- `changes`. Later wins.

    Every part is found and every option of it written out: the recipe still means the same when a default moves.
    """
    loaded: type[Architecture] = zoo.load("architectures", architecture)
    recipe = loaded.recipe
    if named is not None:
        recipe = recipe.merged(_named_recipe(zoo, loaded, architecture.name, named))
        architecture = _inherited(architecture, recipe.architecture)
        dataset = _inherited(dataset, recipe.dataset)
    recipe = recipe.merged({**(changes or {}), "architecture": architecture, "dataset": dataset})
    return recipe.merged({name: _resolved(zoo, kind, getattr(recipe, name)) for name, kind in KIND_OF_FIELD.items()})


def _inherited(choice: Choice, recipe: Choice | None) -> Choice:
    """A choice with the options that a recipe gives the same part, where it does not set them itself."""
    same = recipe is not None and short_name(recipe) == short_name(choice)
    return Choice(choice.name, {**recipe.options, **choice.options}) if recipe and same else choice


def _named_recipe(zoo: Zoo, architecture: type[Architecture], name: str, named: Recipe | str) -> Mapping[str, Any]:
    """The fields of a recipe, of a recipe file, of a variant, or of what another architecture published."""
    if isinstance(named, Recipe):
        return named.to_dict()
    path = Path(named)
    if path.suffix == ".toml":
        if not path.is_file():
            raise UsageError(f"There is no recipe file {named}.")
        return Recipe.read_toml(path)
    if named in architecture.recipes:
        return architecture.recipes[named]
    if named in zoo.names("architectures"):
        others: Recipe = zoo.load("architectures", Choice(named)).recipe
        return {key: value for key, value in others.to_dict().items() if key not in ("architecture", "dataset")}
    known = ", ".join(architecture.recipes) or "none"
    near = did_you_mean(named, [*architecture.recipes, *zoo.names("architectures")])
    raise UsageError(
        f"{name} has no recipe {named!r}.{near} Its own: {known}; the name of another architecture stands for the "
        f"recipe that one was published with; or name a file that ends in .toml."
    )


def _resolved(zoo: Zoo, kind: str, value: Any) -> Any:
    if value is None:
        return None
    return tuple(zoo.resolve(kind, item) for item in value) if isinstance(value, tuple) else zoo.resolve(kind, value)
