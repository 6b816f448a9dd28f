"""Checks of every kind of part."""

from __future__ import annotations

import importlib.util
import json
import sys
import uuid
from typing import Any

import torch

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.options import options_of, resolve
from ganzoo.engine import seeds
from ganzoo.registry.source import file_of
from ganzoo.testing.kit import ExaminedPart, Failed, require
from ganzoo.testing.process import changes, random_state, restoring_process


def has_a_docstring(part: ExaminedPart) -> None:
    """The class has a docstring whose first line, at most 120 characters, says what it is."""
    first = (part.component.__doc__ or "").strip().partition("\n")[0]
    require(first, f"{part.component.__name__} has no docstring: its first line is what `ganzoo list` shows.")
    require(len(first) <= 120, f"The first line of its docstring has {len(first)} characters: `ganzoo list` has 120.")


def options_survive_json(part: ExaminedPart) -> None:
    """Options are keyword-only and typed, have defaults within their bounds, and survive a trip through JSON."""
    reserved = {"split": "train"} if part.kind == "datasets" else {}
    owner = part.component.__name__
    try:
        for option in options_of(part.component).values():
            if option.default is not None or not option.optional:
                kept = option.convert(option.default, owner)
                require(
                    kept == option.default, f"The default {option.default!r} of {option.name!r} is read as {kept!r}."
                )
        given = resolve(part.component, {**part.options, **reserved}, owner)
    except (TypeError, NameError) as error:
        raise Failed(f"The constructor does not keep the contract: {error}") from error
    again = resolve(part.component, json.loads(json.dumps(given)), owner)
    require(again == given, f"After a trip through JSON, {given} is {again}.")


def leaves_the_process_as_it_was(part: ExaminedPart) -> None:
    """Importing and building it print nothing and change no seed, default dtype, signal handler and the like."""
    with restoring_process():
        # the first build may import libraries that change settings; that does not count as a fault of the part
        _make(part)
    found = [f"importing it changes {what}" for what in changes(lambda: _import_again(part.component))]
    if not found:
        found = [f"building it changes {what}" for what in changes(lambda: _make(part))]
    require(not found, f"{'; '.join(found)}.")
    states = []
    for seed in range(2):
        seeds.reseed(seed, "making")
        _make(part)
        states.append(random_state())
    for name, first, second in zip(("torch", "numpy", "random"), *states, strict=True):
        require(first != second, f"Building it seeds the global generator of {name}.")


def _import_again(component: type[Any]) -> None:
    """Run the module of a component again, under a new name. Raises Failed if that changes a random state."""
    before = random_state()
    path = file_of(component)
    package = component.__module__.rpartition(".")[0]
    name = f"{package}.conformance_{uuid.uuid4().hex}".lstrip(".")  # in its package, for relative imports
    spec = importlib.util.spec_from_file_location(name, path) if path else None
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception:
        return  # some modules can be imported only once, because they register something
    finally:
        del sys.modules[name]
    require(random_state() == before, "Importing it draws from a global generator, or seeds it.")


def _make(part: ExaminedPart) -> None:
    """Build a part, and the networks, latents or optimiser that it builds."""
    try:
        built = part.build()
        if part.kind == "architectures":
            built.networks(part.spec)
            built.latents(2, torch.Generator())
        elif part.kind == "optimizers":
            built.build([torch.nn.Parameter(torch.ones(2))])
    except GanzooError:
        return  # files are missing; other checks report that


COMMON = (has_a_docstring, options_survive_json, leaves_the_process_as_it_was)
