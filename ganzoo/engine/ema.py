"""EMA: the exponential moving average of the generator, which samples are drawn from."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """The exponential moving average of a network's weights and buffers.

    `half_life` and `step_images` are numbers of real images: after each step of `step_images`, the average keeps
    0.5 ** (step_images / half_life) of its value. With a half-life of 0, `network` is the network itself.
    """

    def __init__(self, network: nn.Module, half_life: int, step_images: int) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False) if half_life else network
        # of weights and of buffers; integer counters are copied
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True)) if half_life else []
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._weight = 1 - 0.5 ** (step_images / half_life) if half_life else 1.0

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after a step."""
        for averaged, current in self._copied:
            averaged.copy_(current)
        if self._averaged:
            averages, currents = (list(side) for side in zip(*self._averaged, strict=True))
            torch._foreach_lerp_(averages, currents, self._weight)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
