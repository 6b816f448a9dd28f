"""Load the trained generator of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.paths import is_file
from ganzoo.registry.provenance import refuse_changed_code
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.results.export.card import folder_of, is_export
from ganzoo.results.export.opened import ExportedRun
from ganzoo.results.pretrained import open_pretrained
from ganzoo.storage import checkpoints
from ganzoo.storage.recipe_binding import check_recipe
from ganzoo.storage.run import Run
from ganzoo.storage.run_checks import PRETRAINED
from ganzoo.storage.saved_generators import find_generator
from ganzoo.storage.tensors import tensors_from_bytes


@dataclass
class TrainedGenerator:
    """The generator of a run, rebuilt from its recipe and its saved weights. The dataset is not needed."""

    run: Run
    architecture: Architecture
    #: in eval mode on `device`, without gradients: (latents (N, Z), labels (N,)) -> images (N, C, H, W)
    network: nn.Module
    #: shape and number of classes of the images it was trained on
    images: ImageSpec
    class_names: Sequence[str]
    images_seen: int
    #: steps and epochs of training when it was saved; None in files of version 0.1
    step: int | None
    epochs: float | None
    device: torch.device


def open_run(path: Path, zoo: Zoo) -> Run:
    """What is drawn from and scored: a run directory, the folder of an export, or `pretrained:ARCHITECTURE/DATASET`.

    Raises UsageError if `path` is none of these, GanzooError if it is damaged.
    """
    if str(path).startswith(PRETRAINED):
        return open_pretrained(zoo, path.as_posix().removeprefix(PRETRAINED))
    folder = folder_of(path)
    if not is_file(path / "recipe.json") and is_export(folder):
        return ExportedRun(folder, folder, folder)
    if path.suffix in (".onnx", ".pt2", ".safetensors") and is_file(path):
        raise UsageError(
            f"{path} has no card.json beside it, which says what its inputs and images mean: name a folder of `ganzoo "
            f"export`, or draw its images with its own program and score them as a .npy array."
        )
    return Run.open(path)


def is_generator_alone(path: Path) -> bool:
    """Whether `path` is the folder or file of an export, or a pretrained generator: see `open_run`."""
    return str(path).startswith(PRETRAINED) or is_export(folder_of(path))


def load_generator(
    path: Path,
    zoo: Zoo,
    device: torch.device,
    at: int | str | None = None,
    changed_code: bool = False,
    note: Callable[[str], None] = print,
    raw: bool = False,
) -> TrainedGenerator:
    """The newest generator of the run in `path`, or the one that `at` names: see `saved_generators.parse_at`.

    `path` may also be an export or a pretrained generator, see `open_run`. With `raw` the weights are those of the
    training, without their EMA; they are in the checkpoints.

    Raises UsageError if `path` is no run or has no best generator, and GanzooError if it has no such generator, if the
    file is damaged, if the plugin of the architecture is missing, or if the architecture's code has changed since the
    training (unless `changed_code` accepts that), or if recipe.json is not the recipe of the training. `note` receives
    messages for the user.
    """
    run = open_run(path, zoo)
    if isinstance(run, ExportedRun):
        return _load_exported(run, zoo, device, at, changed_code, raw)
    if at == "best":
        newest = _newest_meta(run)
        for text in run.lost_lines(newest) if newest else []:
            note(text)
    tensors, metadata, file = _raw_weights(run, at) if raw else _saved_weights(run, at, note)
    zoo = recorded_zoo(run, zoo)
    name = f"{file.parent.name}/{file.name}"
    for text in check_recipe(path, run.recipe, metadata.get("recipe"), name, run.recipe_changes):
        note(text)
    if not changed_code:
        refuse_changed_code(run, zoo, ("architecture",))
    assert run.recipe.architecture is not None  # noqa: S101  (a run's recipe is complete)
    architecture = zoo.build("architectures", run.recipe.architecture)
    facts = run.environment
    images = ImageSpec(**facts["images"])
    network, _ = architecture.networks(images)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise GanzooError(f"{file} does not fit {run.recipe.architecture}: {str(error).splitlines()[0]}") from None
    network = network.to(device).eval().requires_grad_(False)
    step, epochs = metadata.get("step"), metadata.get("epoch")
    when = None if step is None else int(step), None if epochs is None else float(epochs)
    return TrainedGenerator(run, architecture, network, images, facts["class_names"], int(file.stem), *when, device)


def _load_exported(
    run: ExportedRun, zoo: Zoo, device: torch.device, at: int | str | None, changed_code: bool, raw: bool
) -> TrainedGenerator:
    run.check_at(at)
    if raw and run.card["weights"] != "raw":
        raise UsageError(f"{run.name} has the EMA of the weights only: leave out --raw.")
    architecture, network = run.generator(zoo, changed_code)
    card, facts = run.card, run.environment
    images, names = ImageSpec(**facts["images"]), facts["class_names"]
    when = card["images_seen"], card["step"], card["epoch"]
    return TrainedGenerator(run, architecture, network.to(device), images, names, *when, device)


#: tensors, what is written with them, and their file or checkpoint, whose name is the images seen
_Weights = tuple[dict[str, Tensor], dict[str, Any], Path]


def _saved_weights(run: Run, at: int | str | None, note: Callable[[str], None]) -> _Weights:
    """A saved generator of a run. Raises GanzooError where it is damaged or absent."""
    file = find_generator(run, at)
    checkpoint = checkpoints.newest(run.path / "checkpoints") if at in (None, "last") else None
    if checkpoint and int(checkpoint.name) > int(file.stem):  # the generator is saved before its checkpoint
        note(
            f"{run.path} has lost the generator at {int(checkpoint.name)} images, which was its newest; the one at "
            f"{int(file.stem)} images is used. `ganzoo resume` goes on from the checkpoint."
        )
    tensors, metadata = _read(file, run)
    return tensors, metadata, file


def _raw_weights(run: Run, at: int | str | None) -> _Weights:
    """The generator of a checkpoint, as it is trained. Raises GanzooError where that is damaged or absent."""
    folder = run.path / "checkpoints"
    newest = checkpoints.newest(folder)
    path = newest if at in (None, "last") else folder / find_generator(run, at).stem
    if path is None or not path.is_dir():
        kept = ", ".join(str(int(each.name)) for each in sorted(folder.glob("*")) if each.name.isdecimal()) or "none"
        raise GanzooError(
            f"{run.path} has no weights without their EMA{'' if path is None else f' at {int(path.name)} images'}: "
            f"only checkpoints have them, and those kept are at these images seen: {kept}."
        )
    tensors, meta = checkpoints.load(path)
    own = {name.removeprefix("generator/"): value for name, value in tensors.items() if name.startswith("generator/")}
    return own, {name: meta.get(name) for name in ("recipe", "step", "epoch")}, path


def _read(file: Path, run: Run) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a generator, and what is written in its file. Raises GanzooError where it is damaged."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise GanzooError(f"{file} cannot be read ({error.strerror}): change its permissions.") from None
    try:
        tensors, metadata = tensors_from_bytes(data)
        if int(metadata.get("images", file.stem)) != int(file.stem):
            raise ValueError(f"it is the generator at {metadata['images']} images under another name")
    except ValueError as error:
        raise GanzooError(f"{file} does not fit {run.recipe.architecture}: {error}") from None
    return tensors, metadata


def _newest_meta(run: Run) -> dict[str, Any] | None:
    """meta.json of the newest good checkpoint; None where there is none."""
    try:
        saved = checkpoints.load_latest(run.path / "checkpoints")
    except GanzooError:
        return None
    return saved.meta if saved else None
