"""The card of an exported generator: what it takes and returns, how it was trained, its scores, and its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.evaluation.features import last_part
from ganzoo.results.export.formats import FORMATS, INPUTS, OUTPUT
from ganzoo.results.export.latents import describe_latents
from ganzoo.storage.files import parse_json
from ganzoo.storage.run_checks import check_environment, sealed

FILE = "card.json"
SCHEMA = 1
#: a card of more bytes is not read
_MOST = 1 << 22
#: entries of environment.json that a card keeps: the machine's name, its folders and its threads are left out
_ENVIRONMENT = ("versions", "device", "device_name", "images", "class_names", "training_images", "parts")


def describe(
    recipe: Recipe,
    environment: Mapping[str, Any],
    architecture: Architecture,
    *,
    weights: str,
    parameters: int,
    images_seen: int,
    step: int | None,
    epochs: float | None,
    scores: Iterable[Mapping[str, Any]],
    command: str,
    license: str,
) -> dict[str, Any]:
    """The facts of a generator that do not depend on the format: a card without files, format and check.

    Folders of the machine are left out of it: files are named without them. `weights` is "averaged" or "raw".
    """
    spec, names = environment["images"], [str(name) for name in environment["class_names"]]
    latents = describe_latents(architecture)
    name = f"{short_name(recipe.architecture)}-{short_name(recipe.dataset)}"
    inputs = [
        {
            "name": INPUTS[0],
            "dtype": "float32",
            "shape": ["batch", latents["size"]],
            "distribution": latents["distribution"],
            "range": latents["range"],
        },
        {"name": INPUTS[1], "dtype": "int64", "shape": ["batch"], "range": [0, spec["classes"] - 1]},
    ]
    shape = ["batch", spec["channels"], spec["height"], spec["width"]]
    outputs = [{"name": OUTPUT, "dtype": "float32", "shape": shape, "range": list(architecture.value_range)}]
    return {
        "schema": SCHEMA,
        "name": name,
        "license": license,
        "inputs": inputs,
        "outputs": outputs,
        "conditional": architecture.conditional,
        "classes": names,
        "dataset": portable(recipe.dataset),
        "weights": weights,
        "parameters": parameters,
        "images_seen": images_seen,
        "step": step,
        "epoch": epochs,
        "command": command,
        "scores": [dict(line) for line in scores],
        "recipe": {name: _portable_json(name, value) for name, value in recipe.to_dict().items()},
        "environment": _portable_environment(environment),
        "made_with": {package: version(package) for package in ("torch-ganzoo", "torch")},
    }


def finish(
    facts: Mapping[str, Any], format: str, dtype: str, checked: Mapping[str, Any], files: Mapping[str, bytes]
) -> dict[str, Any]:
    """The whole card: the facts with format, result of the check, the files by name, and the digest of all of it."""
    known = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    return sealed({**facts, "format": format, "dtype": dtype, "check": dict(checked), "files": known})


def card_bytes(card: Mapping[str, Any]) -> bytes:
    """The content of card.json."""
    return (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode()


def is_export(folder: Traversable) -> bool:
    """Whether this folder has a card."""
    try:
        return folder.joinpath(FILE).is_file()
    except OSError:
        return False


def read_card(folder: Traversable, name: str) -> dict[str, Any]:
    """The card in a folder, which messages call `name`. Raises GanzooError where it is damaged, or was edited."""
    try:
        data = folder.joinpath(FILE).read_bytes()
        if len(data) > _MOST:
            raise ValueError(f"it has {len(data)} bytes")
        card: dict[str, Any] = dict(parse_json(data).items())
        if card.get("sha256") != sealed(card)["sha256"]:
            raise ValueError("it does not match its own sha256, so it was edited: put it back, or export the run again")
        _check_shape(card)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, IndexError, UsageError) as error:
        raise GanzooError(f"{name}/{FILE} is damaged: {str(error).rstrip('.')}.") from None
    return card


def read_file(folder: Traversable, card: Mapping[str, Any], name: str) -> bytes:
    """The file with the weights. Raises GanzooError where it is not the one that the card names."""
    return read_named_file(folder, card, FORMATS[card["format"]].file, name)


def read_named_file(folder: Traversable, card: Mapping[str, Any], file: str, name: str) -> bytes:
    """A file of the card by its name in `folder`, which messages call `name`. Raises GanzooError as `read_file`."""
    try:
        data = folder.joinpath(file).read_bytes()
    except OSError as error:
        raise GanzooError(f"{name}/{file} cannot be read ({error.strerror or error}): export the run again.") from None
    if (found := hashlib.sha256(data).hexdigest()) != card["files"][file]["sha256"]:
        raise GanzooError(
            f"{name}/{file} is not the file that its card names (sha256 {found[:12]}, expected "
            f"{card['files'][file]['sha256'][:12]}): put it back, or export the run again."
        )
    return data


def recipe_of(card: Mapping[str, Any]) -> Recipe:
    """The recipe of a card as an export uses it: without observers, and without an EMA if the weights are raw."""
    fields = {**with_current_names(card["recipe"]), "observers": []}
    return Recipe.from_dict({**fields, "ema_half_life": 0} if card["weights"] == "raw" else fields)


def portable(choice: Choice | None) -> str:
    """A part as text, where files are named without their folders."""
    return str(choice and Choice.parse(_portable_json("dataset", {"name": choice.name, "options": choice.options})))


def _check_shape(card: Mapping[str, Any]) -> None:
    """Raise an error with a reason where a card has not the entries that the rest of the program reads."""
    if card["schema"] != SCHEMA:
        raise ValueError(f"it has the form {card['schema']!r} of another version of ganzoo, expected {SCHEMA}")
    if card["format"] not in FORMATS:
        raise ValueError(f"its format is {card['format']!r}, expected one of {', '.join(FORMATS)}")
    check_environment(card["environment"])
    file = card["files"][FORMATS[card["format"]].file]
    numbers = [card["images_seen"], int(card["inputs"][0]["shape"][1]), *map(float, card["outputs"][0]["range"])]
    if not isinstance(file["sha256"], str) or len(numbers) != 4 or not isinstance(card["scores"], list):
        raise TypeError("its entries are of other types")
    if recipe_of(card).architecture is None:
        raise ValueError("it names no architecture")


def _portable_json(field: str, value: Any) -> Any:
    """A field of a recipe in JSON, where files are named without their folders."""
    if field not in KIND_OF_FIELD or value is None:
        return value
    if isinstance(value, list):
        return [_portable_json(field, each) for each in value]
    choice = Choice.parse(value)
    options = {
        name: last_part(option) if isinstance(option, str) and ("/" in option or "\\" in option) else option
        for name, option in choice.options.items()
    }
    name = last_part(choice.name) if choice.is_location else choice.name
    return {"name": name, "options": options} if options else name


def _portable_environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: environment[name] for name in _ENVIRONMENT if name in environment}
    parts = {
        field: [{**part, "location": last_part(part["location"])} if "location" in part else part for part in some]
        for field, some in environment.get("parts", {}).items()
    }
    return {**found, "parts": parts}


def folder_of(path: Path) -> Path:
    """The folder of an export, from its path or from that of one of its files."""
    return path.parent if path.name in {FILE, *(each.file for each in FORMATS.values())} else path
