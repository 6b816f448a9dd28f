"""An exported generator in the place of a run: a folder of `ganzoo export`, or a trained generator of a plugin."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.images import ImageSpec
from ganzoo.registry.provenance import refuse_changed_code
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.results.export.card import read_card, read_file, recipe_of
from ganzoo.results.export.formats import FORMATS, run_from_bytes
from ganzoo.results.export.latents import OWN, ExportedArchitecture
from ganzoo.storage.run import Run
from ganzoo.storage.run_checks import refuse_own_code
from ganzoo.storage.tensors import tensors_from_bytes


class ExportedRun(Run):
    """What is known of the run that a generator was exported from. Its only generator is the exported one.

    `folder` holds the card and the weights. `pictures` is where new pictures are written by default.
    """

    def __init__(self, path: Path, folder: Traversable, pictures: Path) -> None:
        self.folder = folder
        self.name = path.as_posix()
        self.card = read_card(folder, self.name)
        super().__init__(path, recipe_of(self.card))
        refuse_own_code(path, self.recipe)
        self._pictures = pictures

    @property
    def environment(self) -> dict[str, Any]:
        """What the card has kept of environment.json."""
        return dict(self.card["environment"])

    @property
    def pictures(self) -> Path:
        """The folder for pictures that are drawn without naming a file; it is made."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        return self._pictures

    @property
    def progress(self) -> TrainingProgress:
        """The progress of the training when the generator was saved."""
        card = self.card
        return TrainingProgress(card["step"] or 0, card["images_seen"], card["epoch"] or 0.0)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The scores of the card and those made of the export; there are no statistics of the training."""
        if name != "scores.jsonl":
            return []
        return [*self.card["scores"], *(super().lines(name) if self.path.is_dir() else [])]

    def append(self, name: str, *lines: Mapping[str, Any]) -> None:
        """Append lines to a file in the folder. Raises OSError for package data, where nothing is written."""
        if not self.path.is_dir():
            raise OSError(errno.EROFS, "it is part of a package", self.name)
        super().append(name, *lines)

    def check_at(self, at: int | str | None) -> None:
        """Raises UsageError for another generator than the exported one."""
        if at not in (None, self.card["images_seen"]):
            raise UsageError(
                f"{self.name} is one exported generator, of {self.card['images_seen']} images seen: leave out --at."
            )

    def generator(self, zoo: Zoo, changed_code: bool) -> tuple[Architecture, nn.Module]:
        """(architecture, network) of the export, on the CPU in eval mode.

        The architecture of onnx and torch-export is known from the card alone. Raises GanzooError if the file is not
        that of the card, or if the code of the architecture is needed and not installed.
        """
        card, data = self.card, read_file(self.folder, self.card, self.name)
        file = f"{self.name}/{FORMATS[card['format']].file}"
        needs_code = FORMATS[card["format"]].needs_code
        architecture: Architecture
        if needs_code or card["inputs"][0]["distribution"] == OWN:
            architecture = self._installed_architecture(zoo, changed_code)
        else:
            architecture = ExportedArchitecture(card)
        if not needs_code:
            return architecture, run_from_bytes(card["format"], data, file, changed_code).eval()
        network, _ = architecture.networks(ImageSpec(**card["environment"]["images"]))
        try:
            tensors, _ = tensors_from_bytes(data)
            network.load_state_dict(tensors)
        except (RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise GanzooError(f"{file} does not fit {self.recipe.architecture}: {first}") from None
        return architecture, network.eval().requires_grad_(False).to(torch.float32)

    def _installed_architecture(self, zoo: Zoo, changed_code: bool) -> Architecture:
        """The architecture as code. Raises GanzooError, with what to do, where it is not installed."""
        assert self.recipe.architecture is not None  # noqa: S101  (a card names one)
        try:
            zoo = recorded_zoo(self, zoo)
            if not changed_code:
                refuse_changed_code(self, zoo, ("architecture",))
            architecture: Architecture = zoo.build("architectures", self.recipe.architecture)
        except GanzooError as error:
            raise type(error)(
                f"{str(error).rstrip('.')}. {self.name} needs the code of its architecture, because it is of the "
                f"format {self.card['format']}; an export as onnx runs without it."
            ) from None
        return architecture
