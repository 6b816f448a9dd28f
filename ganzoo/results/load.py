"""Load the trained generator of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.images import ImageSpec
from ganzoo.registry.provenance import refuse_changed_code
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.recipe_binding import check_recipe
from ganzoo.storage.run import Run
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


def load_generator(
    path: Path,
    zoo: Zoo,
    device: torch.device,
    at: int | str | None = None,
    changed_code: bool = False,
    note: Callable[[str], None] = print,
) -> TrainedGenerator:
    """The newest generator of the run in `path`, or the one that `at` names: see `saved_generators.parse_at`.

    Raises UsageError if `path` is no run or has no best generator, and GanzooError if it has no such generator, if the
    file is damaged, if the plugin of the architecture is missing, or if the architecture's code has changed since the
    training (unless `changed_code` accepts that), or if recipe.json is not the recipe of the training. `note` receives
    messages for the user.
    """
    run = Run.open(path)
    if at == "best":
        newest = _newest_meta(run)
        for text in run.lost_lines(newest) if newest else []:
            note(text)
    file = find_generator(run, at)
    zoo = recorded_zoo(run, zoo)
    tensors, metadata = _read(file, run)
    for text in check_recipe(path, run.recipe, metadata.get("recipe"), f"generators/{file.name}", run.recipe_changes):
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
