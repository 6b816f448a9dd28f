"""The complete recipe of a run: the architecture's own, a recipe file or a named variant, and changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.paths import is_file
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe, check_accumulation, parse_turns
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.registry.recorded import as_recorded
from ganzoo.registry.zoo import Zoo


def plan(
    zoo: Zoo,
    architecture: Choice,
    dataset: Choice,
    named: Recipe | str | None = None,
    changes: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:
    """The complete recipe: the architecture's own, then `named` (a recipe, a recipe file or a variant), then `changes`.

    Later values replace earlier ones. `options` (field -> options) changes single options of the part in that field.
    Every part is looked up and all its options are written out, so the recipe keeps its meaning if a default changes.
    """
    loaded: type[Architecture] = zoo.load("architectures", architecture)
    recipe = loaded.recipe
    if named is not None:
        recipe = recipe.merged(_named_recipe(zoo, loaded, architecture.name, named))
        architecture = _with_options_of(recipe.architecture, architecture)
        dataset = _with_options_of(recipe.dataset, dataset)
    recipe = recipe.merged({**(changes or {}), "architecture": architecture, "dataset": dataset})
    recipe = recipe.merged({name: _with_options(recipe, name, some) for name, some in (options or {}).items()})
    _refuse_untrained_discriminator(recipe)
    check_accumulation(recipe)
    return recipe.merged({name: _resolved(zoo, kind, getattr(recipe, name)) for name, kind in KIND_OF_FIELD.items()})


def _refuse_untrained_discriminator(recipe: Recipe) -> None:
    """Raise UsageError for turns that never train the discriminator: the generator would learn from random weights."""
    players = {player for turn in parse_turns(recipe.turns) for player in turn}
    if not players & {"D", "D.reals", "D.fakes", "GD"}:
        raise UsageError(f"turns={recipe.turns!r} never trains the discriminator; write for example 'D,G'.")


def _with_options(recipe: Recipe, field: str, options: Mapping[str, Any]) -> Choice:
    """The part in a field of the recipe, with some options changed."""
    choice: Choice | None = getattr(recipe, field)
    if choice is None and field == "discriminator_optimizer":
        raise UsageError(
            f"The optimizer is shared: the generator's trains the discriminator as well. Set "
            f"{' and '.join(f'generator_optimizer.{name}' for name in options)}, or choose an optimizer of its own "
            f"with --discriminator-optimizer."
        )
    if choice is None:
        raise UsageError(f"The recipe has no {field}, so it has no options {', '.join(options)}: choose one first.")
    return Choice(choice.name, {**choice.options, **options})


def _with_options_of(recipe: Choice | None, choice: Choice) -> Choice:
    """A choice with the options that a recipe has for the same part, unless the choice sets them itself."""
    same = recipe is not None and short_name(recipe) == short_name(choice)
    return Choice(choice.name, {**recipe.options, **choice.options}) if recipe and same else choice


def _named_recipe(zoo: Zoo, architecture: type[Architecture], name: str, named: Recipe | str) -> Mapping[str, Any]:
    """The fields of a recipe, of a recipe file, of a variant, or of what another architecture published."""
    if isinstance(named, Recipe):
        return named.every_field()
    if file := recipe_file(named):
        if not is_file(file):
            raise UsageError(f"There is no recipe file {named}.")
        return _of_run(zoo, file) if file.suffix == ".json" else with_current_names(read_recipe(file))
    if named in architecture.recipes:
        return architecture.recipes[named]
    if named in zoo.names("architectures"):
        others: Recipe = zoo.load("architectures", Choice(named)).recipe
        return {key: value for key, value in others.every_field().items() if key not in ("architecture", "dataset")}
    if is_file(Path(named) / "recipe.json"):
        return _of_run(zoo, Path(named) / "recipe.json")
    known = ", ".join(architecture.recipes) or "none"
    near = did_you_mean(named, [*architecture.recipes, *zoo.names("architectures")])
    raise UsageError(
        f"{name} has no recipe {named!r}.{near} Its own: {known}. The name of another architecture means the recipe "
        f"that it was published with. A file must end in .toml or .json, and a run's directory has a recipe.json."
    )


def _of_run(zoo: Zoo, file: Path) -> Mapping[str, Any]:
    """Every field of a run's recipe, with what it meant when the run was recorded."""
    recipe = Recipe.from_dict(with_current_names(read_recipe(file)))

    def recorded(kind: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(recorded(kind, choice) for choice in value)
        return value and as_recorded(zoo.load(kind, value), value)

    former = {name: recorded(kind, getattr(recipe, name)) for name, kind in KIND_OF_FIELD.items()}
    return {**recipe.every_field(), **former}


def recipe_file(named: str) -> Path | None:
    """The file that `named` is by its ending, there or not; None for a name, which may also be a run's directory."""
    path = Path(named)
    return path if path.suffix in (".toml", ".json") and not is_file(path / "recipe.json") else None


def read_recipe(file: Path) -> dict[str, Any]:
    """The fields of a recipe file, in TOML or the recipe.json of a run. Raises UsageError for another content."""
    return Recipe.read_json(file) if file.suffix == ".json" else Recipe.read_toml(file)


def _resolved(zoo: Zoo, kind: str, value: Any) -> Any:
    if value is None:
        return None
    return tuple(zoo.resolve(kind, item) for item in value) if isinstance(value, tuple) else zoo.resolve(kind, value)
