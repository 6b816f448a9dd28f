"""Weights that a training starts from, in place of drawn ones: those of another run, or of another program.

They are kept in the run's directory, in initial.safetensors, so that the run does not depend on where they came from.
environment.json says it, with their sha256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.foreign import ForeignWeights
from ganzoo.contract.paths import is_directory, is_file
from ganzoo.contract.recipe import Recipe
from ganzoo.engine.game import Game
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.files import write_atomically
from ganzoo.storage.foreign import read_foreign
from ganzoo.storage.run import Run
from ganzoo.storage.run_checks import INITIAL_WEIGHTS
from ganzoo.storage.saved_generators import find_generator
from ganzoo.storage.tensors import refuse_infinite, tensors_from_bytes, tensors_to_bytes

#: the networks whose weights can be given, by their names in the state of a game
NETWORKS = ("generator", "discriminator", "average")


@dataclass(frozen=True)
class InitialWeights:
    """Weights of the networks of a game: network -> tensors by name. A network may be missing."""

    networks: Mapping[str, Mapping[str, Tensor]]
    #: where they come from, for environment.json
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """A safetensors file, with names such as generator/dense.weight."""
        flat = {f"{owner}/{name}": value for owner, state in self.networks.items() for name, value in state.items()}
        return tensors_to_bytes(flat)


def weights_from(source: Path, architecture: type[Architecture]) -> InitialWeights:
    """The weights in `source`: a run, or a checkpoint of another program that the architecture can read.

    Of a run the newest checkpoint is taken; without one, the weights that it was imported with, or its newest
    generator.
    Raises UsageError where `source` is neither, GanzooError where it is damaged or refused.
    """
    if is_directory(source):
        return _of_run(Run.open(source))
    if not is_file(source):
        raise UsageError(f"--from {source}: there is no such run or file; name the directory of a run, or a file.")
    file = read_foreign(source, architecture.foreign_classes)
    facts = {"from": str(source), "sha256": file.sha256}
    return InitialWeights(networks_of(architecture.read_foreign(file)), facts)


def networks_of(weights: ForeignWeights) -> dict[str, Mapping[str, Tensor]]:
    """The networks that a foreign file has; the average also serves as the generator where there is no other."""
    found = {name: getattr(weights, name) for name in NETWORKS if getattr(weights, name) is not None}
    if "generator" not in found and "average" in found:
        found["generator"] = found["average"]
    return found


def _of_run(run: Run) -> InitialWeights:
    saved = checkpoints.load_latest(run.path / "checkpoints")
    if saved is not None:
        flat, step = saved.tensors, saved.meta["step"]
    elif is_file(run.path / INITIAL_WEIGHTS):
        flat, step = read_initial(run.path), 0
    else:
        file = find_generator(run, None)
        try:
            tensors, metadata = tensors_from_bytes(file.read_bytes())
        except (OSError, ValueError) as error:
            raise GanzooError(f"{file} is damaged: {error}.") from None
        flat, step = {f"generator/{name}": value for name, value in tensors.items()}, metadata.get("step")
    networks: dict[str, dict[str, Tensor]] = {}
    for name, value in flat.items():
        owner, _, rest = name.partition("/")
        if owner in NETWORKS:
            networks.setdefault(owner, {})[rest] = value
    facts = {"from": str(run.path), "architecture": str(run.recipe.architecture), "step": step}
    return InitialWeights(networks, facts)


def fitted(weights: InitialWeights, modules: Mapping[str, nn.Module], source: str) -> InitialWeights:
    """The weights as the networks need them: those of networks that are there, in their types.

    Raises UsageError, with the first of them, where names or shapes differ.
    """
    found: dict[str, dict[str, Tensor]] = {}
    differences: list[str] = []
    for owner in NETWORKS:
        if owner not in modules or owner not in weights.networks:
            continue
        state = weights.networks[owner]
        own = modules[owner].state_dict()
        buffers = {name for name, _ in modules[owner].named_buffers()}
        differences += [f"{owner} has no {name} there" for name in own if name not in state]
        differences += [f"{owner} has no {name} here" for name in state if name not in own and name not in buffers]
        for name in own.keys() & state.keys():
            there, here = tuple(state[name].shape), tuple(own[name].shape)
            if there != here:
                differences.append(f"{owner} {name} is {_shape(there)} there and {_shape(here)} here")
        found[owner] = {name: state[name].to(own[name].dtype) for name in own if name in state}
    if differences:
        more = f", and {len(differences) - 4} more" if len(differences) > 4 else ""
        architecture = weights.facts.get("architecture")
        raise UsageError(
            f"{source} does not fit this recipe{f' (it is of {architecture})' if architecture else ''}: "
            f"{'; '.join(sorted(differences)[:4])}{more}. Give the same architecture, options and image size."
        )
    if "generator" not in found:
        raise UsageError(f"{source} has no generator; name the file of the generator as well.")
    for state in found.values():
        refuse_infinite(state)
    return InitialWeights(found, weights.facts)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def record(run: Run, weights: InitialWeights) -> None:
    """Write the weights into a run that has just been made."""
    write_atomically(run.path / INITIAL_WEIGHTS, weights.to_bytes())


def facts_of(weights: InitialWeights) -> dict[str, Any]:
    """What environment.json says about the weights."""
    return {**weights.facts, "networks": list(weights.networks), "file_sha256": _sha256(weights.to_bytes())}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_initial(path: Path) -> dict[str, Tensor]:
    """The tensors of a run's initial.safetensors, by names such as generator/dense.weight."""
    file = path / INITIAL_WEIGHTS
    try:
        tensors, _ = tensors_from_bytes(file.read_bytes())
    except (OSError, ValueError) as error:
        raise GanzooError(f"{file} is damaged or missing: {error}.") from None
    return tensors


@torch.no_grad()
def load_initial_weights(run: Run, game: Game) -> None:
    """Copy the weights that the run starts from into the networks of its game, where it has any.

    Without an average among them, the EMA starts from the generator. Raises GanzooError where the file is damaged, or
    is not the one that environment.json names.
    """
    recorded = run.environment.get("initial_weights")
    if recorded is None:
        return
    flat = read_initial(run.path)
    if (sha256 := recorded.get("file_sha256")) and _sha256((run.path / INITIAL_WEIGHTS).read_bytes()) != sha256:
        raise GanzooError(f"{run.path / INITIAL_WEIGHTS} is not the file that the run was made with: put it back.")
    averaged = game.ema.network is not game.generator
    modules = {"generator": game.generator, "discriminator": game.discriminator}
    modules |= {"average": game.ema.network} if averaged else {}
    given: dict[str, dict[str, Tensor]] = {}
    for name, value in flat.items():
        owner, _, rest = name.partition("/")
        given.setdefault(owner, {})[rest] = value
    if averaged and "average" not in given:
        given["average"] = given["generator"]
    weights = fitted(InitialWeights(given), modules, str(run.path / INITIAL_WEIGHTS))
    for owner, state in weights.networks.items():
        own = modules[owner].state_dict()
        for name, value in state.items():
            own[name].copy_(value)


def initial_weights(source: Path, recipe: Recipe, game: Game, zoo: Zoo) -> InitialWeights:
    """The weights in `source` for the networks of a game. Raises UsageError where they do not fit."""
    assert recipe.architecture is not None  # noqa: S101  (the recipe is complete)
    weights = weights_from(source, zoo.load("architectures", recipe.architecture))
    modules = {"generator": game.generator, "discriminator": game.discriminator, "average": game.ema.network}
    return fitted(weights, modules, f"--from {source}")


def in_words(weights: InitialWeights) -> str:
    """What the training starts from, for the user."""
    missing = "" if "discriminator" in weights.networks else "; it has no discriminator, so that one starts anew"
    return f"Starts from the weights of {weights.facts.get('from')}{missing}."
