"""EMA: the exponential moving average of the generator. Samples are drawn with it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """The exponential moving average of a network's weights and buffers.

    `half_life` is a number of real images: after a step that saw `images` of them, the average keeps
    0.5 ** (images / half_life) of its value. With a half-life of 0, `network` is the network itself.
    """

    def __init__(self, network: nn.Module, half_life: int) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False) if half_life else network
        # of weights and of buffers; integer counters are copied
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True)) if half_life else []
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._half_life = half_life

    @torch.no_grad()
    def update(self, images: int) -> None:
        """Update the average after a step that saw `images` real images, over all minibatches and processes.

        A recorded CUDA graph keeps the number it was recorded with: there is one graph for each size of the batches.
        """
        for averaged, current in self._copied:
            averaged.copy_(current)
        if self._averaged:
            averages, currents = (list(side) for side in zip(*self._averaged, strict=True))
            torch._foreach_lerp_(averages, currents, 1 - 0.5 ** (images / self._half_life))


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
