"""Checks of what a part returns against the contract. An error names the part and its file."""

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

#: number of images that are read from a new dataset, at even distances
_READ = 16


class CheckedPart:
    """The part that is checked: its title, which begins each error message, and its file, if it has one."""

    def __init__(self, title: str, home: Path | None) -> None:
        self.title, self.home = title, home

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Code of the part runs inside. An exception from there becomes a GanzooError that names the part."""
        try:
            yield
        except GanzooError:
            raise
        except PLUGIN_ERRORS as error:
            raise GanzooError(f"{self.title} failed in {what}: {error_with_line(error, self.home)}") from error

    def refuse(self, reason: str) -> GanzooError:
        """The error to raise: a sentence with the part's title, its file and the reason."""
        location = f" ({self.home})" if self.home else ""
        return GanzooError(f"{self.title}{location} breaks the contract: {reason}.")

    def expect(self, value: Any, what: str, count: int, device: torch.device, shape: tuple[int, ...] = ()) -> None:
        """Raise unless `value` is a finite floating-point tensor on the device: (count, *shape), or (count, ...)."""
        if not isinstance(value, Tensor):
            raise self.refuse(f"{what} are {type(value).__name__}, not a tensor")
        if value.device.type != device.type:
            raise self.refuse(f"{what} are on the device {value.device}, not {device}")
        expected = f"{(count, *shape)}" if shape else f"({count}, ...)"
        if not value.ndim or len(value) != count or (shape and value.shape != (count, *shape)):
            raise self.refuse(f"{what} are {tuple(value.shape)}, not {expected}")
        if not value.is_floating_point():
            raise self.refuse(f"{what} are {value.dtype}, not floating point")
        if not bool(value.isfinite().all()):
            raise self.refuse(f"{what} are not finite")


def check_dataset(dataset: Dataset, owner: CheckedPart) -> None:
    """Read a few images and their labels. Raises GanzooError if there are none, or they do not match `spec`."""
    with owner("spec and __len__"):
        spec, total = dataset.spec, len(dataset)
    if not total:
        raise owner.refuse("it has no images")
    indices = torch.linspace(0, total - 1, min(_READ, total), dtype=torch.float64).long()
    with owner("read"), torch.random.fork_rng([]):
        images, labels = dataset.read(indices)
    shape = (len(indices), spec.channels, spec.height, spec.width)
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or tuple(images.shape) != shape:
        raise owner.refuse(f"it reads images of {_type_and_shape(images)}, not torch.uint8 {shape}")
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != indices.shape:
        raise owner.refuse(f"it reads labels of {_type_and_shape(labels)}, not torch.int64 ({len(indices)},)")
    invalid = [label for label in labels.tolist() if not 0 <= label < spec.classes]
    if invalid:
        raise owner.refuse(f"it reads the label {invalid[0]}; its labels are 0..{spec.classes - 1}")


def check_scalar(value: Any, what: str, owner: CheckedPart) -> None:
    """Raise GanzooError if `value` is not a finite floating-point tensor without dimensions."""
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        raise owner.refuse(f"{what} gives {_type_and_shape(value)}, not a scalar tensor")
    if not bool(value.isfinite()):
        raise owner.refuse(f"{what} gives {value.item()} for the first round, not a finite number")


def _type_and_shape(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
