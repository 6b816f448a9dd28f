"""Assembly: where names, files and devices meet. The verbs stand on this floor; it plays nothing itself."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganzoo.checkpoint import tensors_from_bytes
from ganzoo.contract.components import Architecture, Dataset
from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.recipe import Choice, Recipe
from ganzoo.engine import ranks, seeds
from ganzoo.engine.compiled import compiled_networks
from ganzoo.engine.feed import Feed
from ganzoo.engine.game import Game
from ganzoo.engine.layout import MEMORY_FORMAT
from ganzoo.run import Run
from ganzoo.zoo import Zoo

_KIND_OF = {
    "architecture": "architectures",
    "dataset": "datasets",
    "losses": "losses",
    "augmentations": "augmentations",
    "observers": "observers",
    "evaluators": "evaluators",
    "generator_optimizer": "optimizers",
    "discriminator_optimizer": "optimizers",
}


def plan(
    zoo: Zoo, architecture: Choice, dataset: Choice, named: str | None = None, changes: Mapping[str, Any] | None = None
) -> Recipe:
    """The architecture's own recipe <- a recipe file or a named variant, if any <- `changes`. Later wins.

    Every part is found and every option of it written out: the recipe still means the same when a default moves.
    """
    loaded: type[Architecture] = zoo.load("architectures", architecture)
    recipe = loaded.recipe
    if named is not None:
        recipe = recipe.merged(_named_recipe(zoo, loaded, architecture.name, named))
        architecture = _inherited(architecture, recipe.architecture)
        dataset = _inherited(dataset, recipe.dataset)
    recipe = recipe.merged({**(changes or {}), "architecture": architecture, "dataset": dataset})
    return recipe.merged({name: _resolved(zoo, kind, getattr(recipe, name)) for name, kind in _KIND_OF.items()})


def _inherited(choice: Choice, recipe: Choice | None) -> Choice:
    """A choice with the options that a recipe gives the same part, where it does not set them itself."""
    same = recipe is not None and short_name(recipe) == short_name(choice)
    return Choice(choice.name, {**recipe.options, **choice.options}) if recipe and same else choice


def _named_recipe(zoo: Zoo, architecture: type[Architecture], name: str, named: str) -> Mapping[str, Any]:
    """The fields of a recipe file, of a variant of the architecture, or of what another architecture published."""
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


def find_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a device. Raises GanzooError where that device is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name!r} is not one of: auto, cpu, cuda, cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name!r} is not one of: auto, cpu, cuda, cuda:N.")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise GanzooError(
                "--device cuda: torch sees no CUDA device here; use --device cpu, or see `ganzoo doctor`."
            )
        # torchrun gives each of its processes a device of its own
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", device.index or 0)))
        if (device.index or 0) >= torch.cuda.device_count():
            raise GanzooError(
                f"--device {device}: there are only {torch.cuda.device_count()} CUDA devices, from cuda:0."
            )
        # fp32 means fp32: TF32 would round every product to 10 bits behind the user's back; bf16 is the fast precision
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.cuda.set_device(device)
    return device


@dataclass
class Table:
    """A recipe with its parts at the table: what `train` plays."""

    recipe: Recipe
    architecture: Architecture
    dataset: Dataset
    game: Game
    feed: Feed
    device: torch.device


def assemble(recipe: Recipe, zoo: Zoo, device: torch.device) -> Table:
    """Build every part of a recipe on the device. Raises a GanzooError, and writes nothing, where one refuses."""
    assert recipe.architecture is not None  # noqa: S101  (a recipe from `plan`)
    assert recipe.dataset is not None  # noqa: S101
    ranks.start(device)
    seeds.reseed(recipe.seed, "parts")  # a part may draw in its constructor
    architecture = zoo.build("architectures", recipe.architecture)
    dataset = zoo.build("datasets", recipe.dataset, split="train")
    generator_optimizer = zoo.build("optimizers", recipe.generator_optimizer)
    game = Game(
        architecture,
        dataset.spec,
        [zoo.build("losses", choice) for choice in recipe.losses],
        [zoo.build("augmentations", choice) for choice in recipe.augmentations],
        generator_optimizer,
        zoo.build("optimizers", recipe.discriminator_optimizer)
        if recipe.discriminator_optimizer
        else generator_optimizer,
        recipe,
        device,
    )
    feed = Feed(dataset, recipe, game.minibatches, architecture.value_range, device)
    return Table(recipe, architecture, dataset, game, feed, device)


def environment(table: Table, zoo: Zoo, capture: bool = True) -> dict[str, Any]:
    """What else the numbers depend on: versions, machine, and where each part comes from.

    `capture` says whether CUDA steps are recorded and replayed.
    """
    recipe, device, dataset = table.recipe, table.device, table.dataset
    parts = {}
    for name, kind in _KIND_OF.items():
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
        "world_size": ranks.world_size(),
        "platform": platform.platform(),
        "training_images": table.feed.digest,
        "images": asdict(dataset.spec),
        "class_names": list(class_names(dataset)),
        "parts": parts,
    }


def device_name(device: torch.device) -> str:
    """What a device is called by who made it; of a CPU as Linux tells it, elsewhere as Python does."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


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


def changed_environment(run: Run, table: Table, zoo: Zoo, capture: bool = True) -> dict[str, tuple[Any, Any]]:
    """What the bits of a resumed run depend on and is not as it was: name to (then, now)."""
    # a run of an earlier version knew less of its environment, and compiled nothing
    then, now = {"compile": [], **run.environment}, environment(table, zoo, capture)
    return {name: (then[name], now[name]) for name in _BITS if name in then and then[name] != now[name]}


def refuse_changed_code(run: Run, zoo: Zoo, fields: Sequence[str] = tuple(_KIND_OF)) -> None:
    """Raise GanzooError where a part of these fields was given by its file, and what that holds is not what it was."""
    parts = run.environment.get("parts", {})
    for field, then in [(name, part) for name in fields for part in parts.get(name, ())]:
        path = Path(then.get("location", "").rpartition(":")[0])
        if "location" not in then or not path.is_file():
            continue  # a file that is gone is named where it is loaded
        now = zoo.provenance(_KIND_OF[field], Choice(then["location"]))
        beside = now.get("imports", {})
        pairs = {path: (then.get("sha256"), now["sha256"])}
        imports = then.get("imports", {})  # an earlier version wrote down none
        pairs |= {path.parent / name: (imports[name], beside.get(name)) for name in imports}
        for file, (old, new) in pairs.items():
            if old != new:
                raise GanzooError(
                    f"{file} has changed since {run.path} was trained with it (sha256 {str(old)[:12]} then, "
                    f"{str(new)[:12]} now): put it back, or accept what it does now with --accept-changed-code."
                )


def class_names(dataset: Dataset) -> Sequence[str]:
    """Names of the classes, numbers where there are none."""
    return dataset.class_names or [str(label) for label in range(dataset.spec.classes)]


def short_name(choice: Choice | None) -> str:
    """A part's name without its distribution, or the class of a location."""
    return choice.name.rpartition("/")[2].rpartition(":")[2] if choice else ""


@dataclass
class Trained:
    """The generator of a run, rebuilt from its recipe and its weights. It needs no dataset."""

    run: Run
    architecture: Architecture
    network: nn.Module
    images: ImageSpec
    class_names: Sequence[str]
    images_seen: int
    device: torch.device


def open_trained(
    path: Path, zoo: Zoo, device: torch.device, at: int | str | None = None, changed_code: bool = False
) -> Trained:
    """The newest generator of the run in `path`, the one saved at `at` images, or the "best" one scored in training.

    Raises GanzooError where there is none yet, its file is damaged, the plugin of its architecture is gone, or (unless
    `changed_code`) the file of it has changed.
    """
    run = Run.open(path)
    if at == "best":
        best = run.best()
        if best is None or "images" not in best:
            raise UsageError(f"{path} has no best generator: it was not scored while it was trained (-e EVALUATOR).")
        at = int(best["images"])
    file = run.newest("generators", ".safetensors") if at is None else run.path / "generators" / f"{at:09d}.safetensors"
    if file is None or not file.is_file():
        saved = ", ".join(str(int(f.stem)) for f in sorted((path / "generators").glob("*.safetensors")))
        what = f"{path} has no generator saved{'' if at is None else f' at {at} images'}"
        raise GanzooError(f"{what}; it has them at {saved} images." if saved else f"{what} yet: train it first.")
    if not changed_code:
        refuse_changed_code(run, zoo, ("architecture",))
    assert run.recipe.architecture is not None  # noqa: S101  (a run's recipe is complete)
    architecture = zoo.build("architectures", run.recipe.architecture)
    facts = run.environment
    images = ImageSpec(**facts["images"])
    network, _ = architecture.networks(images)
    try:
        tensors, _ = tensors_from_bytes(file.read_bytes())
        network.load_state_dict(tensors)
    except (RuntimeError, ValueError) as error:
        raise GanzooError(f"{file} does not fit {run.recipe.architecture}: {str(error).splitlines()[0]}") from None
    network = network.to(device).eval().requires_grad_(False)
    return Trained(run, architecture, network, images, facts["class_names"], int(file.stem), device)


def free_directory(recipe: Recipe, parent: Path) -> Path:
    """`parent/ARCHITECTURE-DATASET`, with the first number behind it that is free."""
    base = "-".join(short_name(c).lower() for c in (recipe.architecture, recipe.dataset))
    names = [base, *(f"{base}-{number}" for number in range(2, 10_000))]
    return next(parent / name for name in names if not (parent / name).exists())
