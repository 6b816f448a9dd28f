"""Make a run from checkpoints of another program: its weights under our names, and the recipe that fits them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.foreign import ForeignWeights
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.recipe import Recipe
from ganzoo.engine import seeds
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.files import make_directory, write_atomically
from ganzoo.storage.foreign import read_foreign
from ganzoo.storage.recipe_binding import recipe_text
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import tensors_to_bytes
from ganzoo.training.environment import machine_facts
from ganzoo.training.initial_weights import InitialWeights, facts_of, fitted, networks_of, record

_SIDES = ("channels", "height", "width", "classes")


def import_run(
    files: Sequence[Path],
    architecture: Choice,
    zoo: Zoo,
    out: Path | Callable[[Recipe], Path],
    dataset: Choice | None = None,
    note: Callable[[str], None] = print,
) -> Run:
    """A new run with the weights in `files`, checkpoints of the program that the architecture follows.

    `out` is its directory, or a function of its recipe that names it. The run has been trained for no step: sampling
    and scores use the imported weights (the moving average where a file has one), and a training that is resumed
    starts from them. `dataset` is what it is compared with and trained on, by default that of the architecture's
    recipe.

    Raises UsageError where a file is none of that program or shapes do not fit, GanzooError where a file is refused.
    """
    loaded: type[Architecture] = zoo.load("architectures", architecture)
    read = [read_foreign(file, loaded.foreign_classes) for file in files]
    found = [loaded.read_foreign(one) for one in read]
    merged = _merged(found, files)
    images = _images(merged, files)
    options = {**merged.options, **architecture.options}
    chosen = dataset or _dataset(loaded, merged)
    if chosen is None:
        raise UsageError(f"The recipe of {architecture.name} names no dataset: give one by --dataset.")
    recipe = plan(zoo, Choice(architecture.name, options), chosen, merged.recipe or None)
    assert recipe.architecture is not None  # noqa: S101  (plan makes it complete)
    made: Architecture = zoo.build("architectures", recipe.architecture)
    seeds.reseed(recipe.seed, "networks")
    generator, discriminator = made.networks(images)
    modules = {"generator": generator, "discriminator": discriminator, "average": generator}
    facts = {
        "from": [str(file) for file in files],
        "sha256": [one.sha256 for one in read],
        "architecture": str(recipe.architecture),
    }
    names = ", ".join(map(str, files))
    weights = fitted(InitialWeights(networks_of(merged), facts), modules, names)
    path = out if isinstance(out, Path) else out(recipe)
    run = _written(path, recipe, zoo, made, images, weights)
    for text in filter(None, [merged.note, _missing(weights)]):
        note(text)
    return run


def _written(
    path: Path, recipe: Recipe, zoo: Zoo, architecture: Architecture, images: ImageSpec, weights: InitialWeights
) -> Run:
    """The directory of a run that has these weights and was trained for no step."""
    environment = {
        **machine_facts(recipe, zoo, torch.device("cpu")),
        "images": {side: getattr(images, side) for side in _SIDES},
        "class_names": [str(label) for label in range(images.classes)],
        "initial_weights": {**facts_of(weights), "imported": True, "conditional": architecture.conditional},
    }
    run = Run.create(path, recipe, environment)
    try:
        record(run, weights)
        run.write_history({}, saved=False)
        shown = weights.networks.get("average", weights.networks["generator"])
        facts = {"images": "0", "step": "0", "epoch": "0.0", "recipe": recipe_text(recipe, length=False)}
        make_directory(path / "generators")
        write_atomically(path / "generators" / f"{0:09d}.safetensors", tensors_to_bytes(shown, facts))
    except (OSError, GanzooError):
        run.discard()
        raise
    finally:
        run.close()
    return run


def _merged(found: Sequence[ForeignWeights], files: Sequence[Path]) -> ForeignWeights:
    """The networks of several files together. Raises UsageError where two files have the same, or do not agree."""
    networks: dict[str, Any] = {}
    options: dict[str, Any] = {}
    images: dict[str, int] = {}
    for weights, file in zip(found, files, strict=True):
        for name, state in networks_given(weights).items():
            if name in networks:
                raise UsageError(f"{file} holds a {name}, and another file does too: name one file of each network.")
            networks[name] = state
        for what, known, given in (("option", options, weights.options), ("images'", images, weights.images)):
            for key, value in given.items():
                if known.setdefault(key, value) != value:
                    raise UsageError(
                        f"{file} does not belong to the other files: {what} {key} is {value} in it and {known[key]} "
                        f"in them."
                    )
    recipe = next((weights.recipe for weights in found if weights.recipe), "")
    dataset = next((weights.dataset for weights in found if weights.dataset), "")
    note = " ".join(weights.note for weights in found if weights.note)
    return ForeignWeights(options=options, images=images, note=note, recipe=recipe, dataset=dataset, **networks)


def _dataset(architecture: type[Architecture], weights: ForeignWeights) -> Choice | None:
    """What the program trained on: the dataset that its file names, that of the variant, or that of the recipe."""
    if weights.dataset:
        return Choice.parse(weights.dataset)
    variant = architecture.recipes.get(weights.recipe, {}).get("dataset")
    return Choice.parse(variant) if isinstance(variant, str) else architecture.recipe.dataset


def networks_given(weights: ForeignWeights) -> dict[str, Mapping[str, Any]]:
    """The networks that a file really has."""
    return {
        name: state
        for name in ("generator", "discriminator", "average")
        if (state := getattr(weights, name)) is not None
    }


def _images(weights: ForeignWeights, files: Sequence[Path]) -> ImageSpec:
    if weights.generator is None and weights.average is None:
        raise UsageError(f"{', '.join(map(str, files))}: there is no generator in it; name its file as well.")
    missing = [side for side in _SIDES[:3] if side not in weights.images]
    if missing:
        raise UsageError(f"{', '.join(map(str, files))}: the {' and '.join(missing)} of its images are not known.")
    return ImageSpec(**weights.images)


def _missing(weights: InitialWeights) -> str:
    if "discriminator" in weights.networks:
        return ""
    return "There is no discriminator in it: a training that is resumed starts with a new one."
