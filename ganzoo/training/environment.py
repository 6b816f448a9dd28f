"""What the numbers of a run depend on besides its recipe: versions, machine, images, and the code of each part.

`environment` collects it for environment.json, `changed_environment` compares it when a run is resumed, and
`describe_changes` puts the differences into words.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from ganzoo.contract.components import class_names
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.engine.compile import compiled_networks
from ganzoo.engine.device import device_name
from ganzoo.engine.distributed import world_size
from ganzoo.engine.memory_format import MEMORY_FORMAT
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.run import Run
from ganzoo.training.build import TrainingSetup

_PACKAGES = ("torch-ganzoo", "torch", "torchvision", "numpy", "safetensors", "pluggy")
#: entries of environment.json that can change the bits of a run -> how a message names them
_COMPARED = {
    "versions": "versions",
    "device": "device",
    "device_name": "processor or GPU",
    "instructions": "set of instructions",
    "threads": "number of threads",
    "memory_format": "memory layout",
    "capture": "CUDA graph setting",
    "compile": "choice of compiled networks",
    "world_size": "number of processes",
    "training_images": "set of training images",
    "parts": "parts",
}
_SINGULAR = {"losses": "loss", "augmentations": "augmentation", "observers": "observer", "evaluators": "evaluator"}


def environment(setup: TrainingSetup, zoo: Zoo, capture: bool = True) -> dict[str, Any]:
    """The content of environment.json: versions, machine, images, and where each part comes from.

    `capture` says whether CUDA steps are recorded as graphs.
    """
    dataset, facts = setup.dataset, machine_facts(setup.recipe, zoo, setup.device)
    return {
        **facts,
        "capture": capture and setup.device.type == "cuda",
        "compile": compiled_networks(setup.game),
        "world_size": world_size(),
        "training_images": setup.feed.fingerprint,
        "images": asdict(dataset.spec),
        "class_names": list(class_names(dataset)),
    }


def machine_facts(recipe: Recipe, zoo: Zoo, device: torch.device) -> dict[str, Any]:
    """Versions, machine, and where each part of a recipe comes from."""
    parts = {}
    for name, kind in KIND_OF_FIELD.items():
        value = getattr(recipe, name)
        choices = value if isinstance(value, tuple) else [value] if value else []
        parts[name] = [zoo.provenance(kind, choice) for choice in choices]
    return {
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}},
        "device": str(device),
        "device_name": device_name(device),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "memory_format": str(MEMORY_FORMAT).removeprefix("torch."),
        "platform": platform.platform(),
        "parts": parts,
    }


def changed_environment(
    run: Run, setup: TrainingSetup, zoo: Zoo, capture: bool = True, images: str = ""
) -> dict[str, tuple[Any, Any]]:
    """The entries that differ from the run's environment.json and can change its bits: name -> (then, now).

    `images` is the fingerprint of the training images to compare with, where they are others than at the start.
    """
    # environment.json of an earlier version has fewer entries, and that version compiled nothing
    then, now = {"compile": [], **run.environment}, environment(setup, zoo, capture)
    if images:
        then["training_images"] = images
    return {name: (then[name], now[name]) for name in _COMPARED if name in then and then[name] != now[name]}


def refuse_other_images(run: Run, then: str, fingerprint: str) -> None:
    """Raise GanzooError where `then`, the fingerprint (sha256) of what the run was trained on, is another one.

    Runs of earlier versions have no fingerprint and are accepted.
    """
    if then not in ("", fingerprint):
        raise GanzooError(
            f"The images of {run.recipe.dataset} have changed since {run.path} was trained on them (sha256 "
            f"{_short(then)} then, {_short(fingerprint)} now): restore them, or continue with "
            f"--accept-changed-images."
        )


# --- the differences in words ---


def describe_changes(changed: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """One phrase for each package, part or other entry that differs: `another torch (2.14.0 then, 2.15.0 now)`."""
    phrases = []
    for name, (then, now) in changed.items():
        if name == "versions":
            phrases += [_another(package, *pair) for package, pair in _differences(then, now)]
        elif name == "parts":
            for field, pair in _differences(then, now):
                part = _SINGULAR.get(field, field.replace("_", " "))
                phrases += [_another(part, *two) for two in _changed_parts(*pair)]
        else:
            phrases.append(_another(_COMPARED.get(name, name), _short(then), _short(now)))
    return phrases


def _another(what: str, then: Any, now: Any) -> str:
    then, now = ("none" if value is None else value for value in (then, now))
    return f"another {what} ({then} then, {now} now)"


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, tuple[Any, Any]]]:
    names = dict.fromkeys([*then, *now])
    return [(name, (then.get(name), now.get(name))) for name in names if then.get(name) != now.get(name)]


def _changed_parts(then: Sequence[Any] | None, now: Sequence[Any] | None) -> list[tuple[str | None, str | None]]:
    """The parts of one recipe field that differ, in pairs by their position."""
    old, new = list(then or ()), list(now or ())
    length = max(len(old), len(new))
    pairs = zip(old + [None] * (length - len(old)), new + [None] * (length - len(new)), strict=True)
    return [(_part(one), _part(other)) for one, other in pairs if one != other]


def _part(provenance: Mapping[str, Any] | None) -> str | None:
    """A part with its version (`torch-ganzoo/r1 0.1.0`), or its file with the start of its sha256."""
    if provenance is None:
        return None
    if "location" not in provenance:
        return f"{provenance.get('id')} {provenance.get('version')}"
    imports = provenance.get("imports")
    files = [f"{name} {_short(sha256)}" for name, sha256 in imports.items()] if isinstance(imports, dict) else []
    return ", ".join([f"{provenance['location']} of sha256 {_short(provenance.get('sha256'))}", *files])


def _short(value: Any) -> Any:
    """The first 12 characters of a sha256, the entries of a list as one text; other values as they are."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return value[:12] if isinstance(value, str) and len(value) == 64 else value
