"""Load the trained generator of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.images import ImageSpec
from ganzoo.registry.provenance import refuse_changed_code
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.run import Run
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
    device: torch.device


def load_generator(
    path: Path, zoo: Zoo, device: torch.device, at: int | str | None = None, changed_code: bool = False
) -> TrainedGenerator:
    """The newest generator of the run in `path`, the one saved at `at` images, or the "best" one scored in training.

    Raises UsageError if `path` is no run or has no best generator, and GanzooError if it has no such generator, if the
    file is damaged, if the plugin of the architecture is missing, or if the architecture's code has changed since the
    training (unless `changed_code` accepts that).
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
    return TrainedGenerator(run, architecture, network, images, facts["class_names"], int(file.stem), device)
