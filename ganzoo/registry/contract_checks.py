"""Promises: what a part gives is held against the contract; one that breaks it is refused by its own name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.components import Dataset
from ganzoo.contract.errors import GanzooError
from ganzoo.registry.source import PLUGIN_ERRORS, error_with_line

#: images a dataset is asked for when it is made, spread over it
_READ = 16


class CheckedPart:
    """Whose promises they are: the title of a part, as a sentence about it begins, and its file."""

    def __init__(self, title: str, home: Path | None) -> None:
        self.title, self.home = title, home

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """A while in which its code runs: what is raised there is raised by its name."""
        try:
            yield
        except GanzooError:
            raise
        except PLUGIN_ERRORS as error:
            raise GanzooError(f"{self.title} failed in {what}: {error_with_line(error, self.home)}") from error

    def refuse(self, words: str) -> GanzooError:
        """An error with the part's name and file."""
        return GanzooError(f"{self.title} ({self.home}) breaks the contract: {words}.")

    def expect(self, value: Any, what: str, count: int, device: torch.device, shape: tuple[int, ...] = ()) -> None:
        """That `value` is a finite floating tensor of `count` rows on the device, of that shape if one is given."""
        if not isinstance(value, Tensor):
            raise self.refuse(f"{what} are {type(value).__name__}, not a tensor")
        if value.device != device and value.device.type != device.type:
            raise self.refuse(f"{what} are on the device {value.device}, not {device}")
        wanted = f"{(count, *shape)}" if shape else f"({count}, ...)"
        if not value.ndim or len(value) != count or (shape and value.shape != (count, *shape)):
            raise self.refuse(f"{what} are {tuple(value.shape)}, not {wanted}")
        if not value.is_floating_point():
            raise self.refuse(f"{what} are {value.dtype}, not floating point")
        if not bool(value.isfinite().all()):
            raise self.refuse(f"{what} are not finite")


def check_dataset(dataset: Dataset, owner: CheckedPart) -> None:
    """Read a few images and their labels. Raises GanzooError where they are not what the dataset's `spec` says."""
    spec, total = dataset.spec, len(dataset)
    indices = torch.linspace(0, total - 1, min(_READ, total)).long()
    with owner("read"), torch.random.fork_rng([]):
        images, labels = dataset.read(indices)
    wanted = (len(indices), spec.channels, spec.height, spec.width)
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or tuple(images.shape) != wanted:
        raise owner.refuse(f"it reads images of {_told(images)}, not torch.uint8 {wanted}")
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != indices.shape:
        raise owner.refuse(f"it reads labels of {_told(labels)}, not torch.int64 ({len(indices)},)")
    strange = [label for label in labels.tolist() if not 0 <= label < spec.classes]
    if strange:
        raise owner.refuse(f"it reads the label {strange[0]}; its labels are 0..{spec.classes - 1}")


def check_scalar(value: Any, what: str, owner: CheckedPart) -> None:
    """Raise GanzooError where `value` is not a finite floating tensor without dimensions."""
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        raise owner.refuse(f"{what} gives {_told(value)}, not a scalar tensor")
    if not bool(value.isfinite()):
        raise owner.refuse(f"{what} gives {value.item()} for the first round, not a finite number")


def _told(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
