"""Sums over the processes that train together, which can be differentiated any number of times."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_processes(values: Tensor) -> tuple[Tensor, int]:
    """(the sum of `values` over all processes, their number). The losses of all processes depend on it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values, 1
    return _Sum.apply(values), dist.get_world_size()  # type: ignore[no-untyped-call]


def gather_over_processes(values: Tensor) -> tuple[Tensor, int]:
    """(values (N, ...) of all processes one after the other (processes N, ...), the place of the own first one)."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values, 0
    count, first = len(values), dist.get_rank() * len(values)
    empty = values.new_zeros(dist.get_world_size() * count, *values.shape[1:])
    padded = torch.cat([empty[:first], values, empty[first + count :]])
    return sum_over_processes(padded)[0], first


class _Sum(torch.autograd.Function):
    """The gradient of a sum that all processes use is the sum of the gradients of all of them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(gradients[0])  # type: ignore[no-untyped-call]
        return summed
