"""Changes: what is not as it was when a run began, in words."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from ganzoo.contract.components import class_names
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.recipe import KIND_OF_FIELD
from ganzoo.engine.compile import compiled_networks
from ganzoo.engine.device import device_name
from ganzoo.engine.distributed import world_size
from ganzoo.engine.memory_format import MEMORY_FORMAT
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.run import Run
from ganzoo.training.build import TrainingSetup

#: items of an environment whose name is no word of everyday
_WORDS = {
    "device_name": "processor or GPU",
    "instructions": "set of instructions",
    "threads": "number of threads",
    "memory_format": "memory layout",
    "capture": "way of playing steps: recorded",
    "compile": "choice of compiled networks",
    "world_size": "number of processes",
    "training_images": "set of training images",
}
_SINGULAR = {"losses": "loss", "augmentations": "augmentation", "observers": "observer", "evaluators": "evaluator"}


def describe_changes(changed: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """`another torch (2.14.0 then, 2.15.0 now)`: one for each package, part and other item that is another."""
    found = []
    for name, (then, now) in changed.items():
        if name == "versions":
            found += [_pair(key, *pair) for key, pair in _different(then, now)]
        elif name == "parts":
            for field, pair in _different(then, now):
                found += [_pair(_SINGULAR.get(field, field.replace("_", " ")), *two) for two in _parts(*pair)]
        else:
            found.append(_pair(_WORDS.get(name, name.replace("_", " ")), _short(then), _short(now)))
    return found


def _pair(what: str, then: Any, now: Any) -> str:
    none = "none"
    return f"another {what} ({none if then is None else then} then, {none if now is None else now} now)"


def _different(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, tuple[Any, Any]]]:
    names = dict.fromkeys([*then, *now])
    return [(name, (then.get(name), now.get(name))) for name in names if then.get(name) != now.get(name)]


def _parts(then: Sequence[Any] | None, now: Sequence[Any] | None) -> list[tuple[str | None, str | None]]:
    """Those of one field, two by two, that are another."""
    old, new = list(then or ()), list(now or ())
    length = max(len(old), len(new))
    pairs = zip(old + [None] * (length - len(old)), new + [None] * (length - len(new)), strict=True)
    return [(_part(one), _part(other)) for one, other in pairs if one != other]


def _part(provenance: Mapping[str, Any] | None) -> str | None:
    """A part by where it comes from: `torch-ganzoo/r1 0.1.0`, or its file and what that holds."""
    if provenance is None:
        return None
    if "location" not in provenance:
        return f"{provenance.get('id')} {provenance.get('version')}"
    beside = provenance.get("imports")
    more = [f"{name} {_short(sha)}" for name, sha in beside.items()] if isinstance(beside, dict) else []
    return f"{provenance['location']} of sha256 {_short(provenance.get('sha256'))}" + "".join(f", {m}" for m in more)


def _short(value: Any) -> Any:
    """Of a sha256 what a person compares; the members of a list."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return value[:12] if isinstance(value, str) and len(value) == 64 else value


def refuse_other_images(run: Run, digest: str) -> None:
    """Raise GanzooError where the training images are not those of the run; one of an earlier version cannot tell."""
    then = run.environment.get("training_images")
    if then not in (None, digest):
        raise GanzooError(
            f"The images of {run.recipe.dataset} have changed since {run.path} was trained on them (sha256 "
            f"{_short(then)} then, {_short(digest)} now): put them back, or go on with --accept-changed-images."
        )


def environment(table: TrainingSetup, zoo: Zoo, capture: bool = True) -> dict[str, Any]:
    """What else the numbers depend on: versions, machine, and where each part comes from.

    `capture` says whether CUDA steps are recorded and replayed.
    """
    recipe, device, dataset = table.recipe, table.device, table.dataset
    parts = {}
    for name, kind in KIND_OF_FIELD.items():
        value = getattr(recipe, name)
        choices = value if isinstance(value, tuple) else [value] if value else []
        parts[name] = [zoo.provenance(kind, choice) for choice in choices]
    packages = ("torch-ganzoo", "torch", "torchvision", "numpy", "safetensors", "pluggy")
    return {
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "device": str(device),
        "device_name": device_name(device),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "memory_format": str(MEMORY_FORMAT).removeprefix("torch."),
        "capture": capture and device.type == "cuda",
        "compile": compiled_networks(table.game),
        "world_size": world_size(),
        "platform": platform.platform(),
        "training_images": table.feed.fingerprint,
        "images": asdict(dataset.spec),
        "class_names": list(class_names(dataset)),
        "parts": parts,
    }


#: what the bits of a run depend on beside its recipe
_BITS = (
    "versions",
    "device",
    "device_name",
    "instructions",
    "threads",
    "memory_format",
    "capture",
    "compile",
    "world_size",
    "training_images",
    "parts",
)


def changed_environment(run: Run, table: TrainingSetup, zoo: Zoo, capture: bool = True) -> dict[str, tuple[Any, Any]]:
    """What the bits of a resumed run depend on and is not as it was: name to (then, now)."""
    # a run of an earlier version knew less of its environment, and compiled nothing
    then, now = {"compile": [], **run.environment}, environment(table, zoo, capture)
    return {name: (then[name], now[name]) for name in _BITS if name in then and then[name] != now[name]}
