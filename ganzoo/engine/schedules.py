"""Numbers of the parts that follow a schedule: scalar tensors, written before each step, which a CUDA graph reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganzoo.contract.components import Augmentation, Loss, Optimizer
from ganzoo.contract.errors import UsageError

_Part = Loss | Augmentation | Optimizer


class ScheduledNumbers:
    """Makes a scalar tensor of each attribute of `parts` that follows a schedule, and writes its value.

    They are functions of the images seen, and no part of the state. Raises UsageError where a part does not keep the
    number under the name of its option, so that nothing would change.
    """

    def __init__(self, parts: Sequence[_Part], device: torch.device) -> None:
        self._parts = [part for part in parts if part.scheduled]
        self._tensors: list[tuple[_Part, str, Tensor]] = []
        for part in self._parts:
            for name, schedule in part.scheduled.items():
                _check(part, name, schedule.base)
                if isinstance(part, Optimizer) and name == "lr":
                    continue  # Optimizer.scheduled_learning_rate
                dtype = torch.float64 if isinstance(part, Optimizer) else torch.get_default_dtype()
                tensor = torch.tensor(schedule.at(0), dtype=dtype, device=device)
                vars(part)[name] = tensor
                self._tensors.append((part, name, tensor))

    def set_length(self, images: int) -> None:
        """Set the number of real images that the run will have seen at its end, for schedules that end there."""
        for part in self._parts:
            part.scheduled = {name: schedule.of_length(images) for name, schedule in part.scheduled.items()}

    def advance(self, images_seen: int) -> None:
        """Write the numbers after `images_seen` real images. The device is not waited for."""
        for part, name, tensor in self._tensors:
            tensor.fill_(part.scheduled[name].at(images_seen))


def _check(part: _Part, name: str, base: float) -> None:
    own = f"{type(part).__name__} does not support it"
    if isinstance(part, Optimizer) and name not in part.schedulable:
        raise UsageError(f"{name!r} cannot follow a schedule: {own}; it can for {', '.join(part.schedulable)}.")
    if vars(part).get(name) != base:
        raise UsageError(f"{name!r} cannot follow a schedule: {own}, because it keeps no number of that name.")
