"""Average: the generator that samples are drawn from, a moving average of the one that learns."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """The moving average of the generator. With a half-life of zero it is the generator itself."""

    def __init__(self, network: nn.Module, half_life: int, step_images: int) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False) if half_life else network
        # weights and buffers alike; integer counters are copied
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True)) if half_life else []
        self._followed = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._share = 1 - 0.5 ** (step_images / half_life) if half_life else 1.0

    @torch.no_grad()
    def update(self) -> None:
        """Move the share of one step towards the generator."""
        for mine, theirs in self._copied:
            mine.copy_(theirs)
        if self._followed:
            mine_all, theirs_all = (list(side) for side in zip(*self._followed, strict=True))
            torch._foreach_lerp_(mine_all, theirs_all, self._share)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
