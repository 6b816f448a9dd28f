"""Checks of what is read from a run directory: it may be damaged, of another program, or of somebody else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.paths import absolute_path, is_file
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.storage.files import digest_of, parse_json
from ganzoo.storage.missing_run import no_run_in

#: the file of a run with the weights that the training starts from, where they were not drawn
INITIAL_WEIGHTS = "initial.safetensors"


def read_environment(path: Path) -> dict[str, Any]:
    """The content of an environment.json. Raises GanzooError if it is damaged or missing."""
    try:
        facts: dict[str, Any] = dict(parse_json(path.read_bytes()).items())
        if "sha256" in facts and facts != sealed(facts):
            raise ValueError("it does not match its own sha256 (if you have edited it, remove that entry)")
        check_environment(facts)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise GanzooError(f"{path} is damaged or missing: {error}.") from None
    return facts


def read_recipe(run: Path) -> Recipe:
    """The recipe of the run in this directory. Raises UsageError if there is none, GanzooError if it is damaged."""
    path = run / "recipe.json"
    if not is_file(path):
        refuse_generator_alone(run)
        raise UsageError(no_run_in(run))
    try:
        recipe = Recipe.from_dict(with_current_names(parse_json(_read(path))))
        if recipe.architecture is None or recipe.dataset is None:
            raise ValueError("it names no architecture or no dataset")
    except (ValueError, TypeError, AttributeError, UsageError) as error:
        raise GanzooError(f"{path} is damaged: {str(error).rstrip('.')}.") from None
    return recipe


def _read(path: Path) -> bytes:
    """The content of a file. Raises GanzooError where it may not be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise GanzooError(f"{path} cannot be read ({error.strerror}): change its permissions.") from None


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of environment.json, with the sha256 of all of them added as the last entry."""
    body = {name: value for name, value in facts.items() if name != "sha256"}
    return {**body, "sha256": digest_of(json.loads(json.dumps(body)))}


def is_environment(path: Path) -> bool:
    """Whether this is the environment.json of a run, and not a file of the user's own."""
    try:
        check_environment(parse_json(path.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return False
    return True


def check_environment(facts: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError, ValueError or AttributeError, with a reason, if these are not the facts of a run."""
    for name, kind in {"device": str, "images": dict, "class_names": list, "versions": dict}.items():
        if not isinstance(facts[name], kind):
            raise TypeError(f"{name} is {facts[name]!r:.40}")
    numbers = [facts["images"][name] for name in ("channels", "height", "width", "classes")]
    if not all(isinstance(number, int) and 0 < number <= 1 << 16 for number in numbers) or len(facts["images"]) > 4:
        raise ValueError(f"images is {facts['images']!r:.80}")
    for name, parts in facts.get("parts", {}).items():
        kinds = {"location": str, "imports": dict}
        if not all(isinstance(p, dict) and all(isinstance(p.get(k, t()), t) for k, t in kinds.items()) for p in parts):
            raise TypeError(f"parts has {name}: {parts!r:.40}")


#: begins the name of a trained generator that a plugin ships, in the place of a run
PRETRAINED = "pretrained:"


def refuse_generator_alone(path: Path) -> None:
    """Raise UsageError where only a generator is named, an export or a pretrained one: there is no training here."""
    if str(path).startswith(PRETRAINED):
        raise UsageError(
            f"{path.as_posix()} is a generator without the state of its training: the command that trained it is in "
            "`ganzoo list pretrained`; start a run of your own with it."
        )
    if is_file(path / "card.json"):
        raise UsageError(
            f"{path} is an exported generator without the state of its training: name the run that it was exported "
            f"from, or train anew with the command in {path / 'README.md'}."
        )


def _named_within(choice: Choice) -> Iterator[Choice]:
    """The components in files that options name, such as the extractor of an evaluator."""
    for value in choice.options.values():
        if isinstance(value, str) and ".py:" in value:
            with suppress(UsageError):
                yield Choice.parse(value)


def refuse_own_code(path: Path, recipe: Recipe) -> None:
    """Raise GanzooError if the recipe names code inside the run directory: it may be a stranger's, and is not run."""
    found = [getattr(recipe, field.name) for field in dataclasses.fields(recipe)]
    values = [value for each in found for value in (each if isinstance(each, tuple) else [each])]
    named = [value for value in values if isinstance(value, Choice)]
    for choice in [*named, *(part for value in named for part in _named_within(value))]:
        if choice.is_location:
            file = absolute_path(choice.name.rpartition(":")[0])
            if file.is_relative_to(path.resolve()):
                raise GanzooError(
                    f"{path / 'recipe.json'} names code that lies in the run itself, {file.name}: read it, and if you "
                    f"trust it, move it elsewhere and name its new place there."
                )
