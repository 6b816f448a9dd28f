"""Running means of scalars. They are on the device, so that a step does not wait for the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class RunningMeans(nn.Module):
    """Means of named scalars over the steps since the last `read`."""

    sums: Tensor
    count: Tensor

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("sums", torch.zeros(len(names), dtype=torch.float64, device=device))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64, device=device))

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the scalars of one step. Does not synchronise with the device."""
        self.sums += torch.stack([values[name].detach().to(torch.float64) for name in self.names])
        self.count += 1

    def read(self) -> dict[str, float]:
        """The means since the last call, as Python numbers, empty if nothing was added. Synchronises and resets."""
        found = self.look()
        self.sums.zero_()
        self.count.zero_()
        return found

    def look(self) -> dict[str, float]:
        """What `read` returns, without a reset. Synchronises."""
        *sums, count = torch.cat([self.sums, self.count.view(1)]).tolist()
        return {name: value / count for name, value in zip(self.names, sums, strict=True)} if count else {}
