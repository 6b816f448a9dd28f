"""Rank, world size and the mean over ranks: torch.distributed and nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ganzoo.contract.errors import GanzooError


def start(device: torch.device) -> None:
    """Join the other processes when `torchrun` started this one; do nothing when it runs alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def rank() -> int:
    """This process among its peers, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that play together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on at least one process: all of them must leave the loop at the same step."""
    return bool(highest(int(flag)))


def highest(number: int) -> int:
    """The highest of the numbers of all processes."""
    if world_size() == 1:
        return number
    numbers = torch.tensor(number, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    _reduce(numbers, dist.ReduceOp.MAX)
    return int(numbers.item())


def mean_over_ranks(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Each tensor averaged over all processes, in one all-reduce; on one process, the tensors themselves."""
    if world_size() == 1:
        return tensors
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    _reduce(flat, dist.ReduceOp.SUM)
    flat /= world_size()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def _reduce(tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> None:
    """Reduce over all processes, in place. Raises GanzooError where one of them is gone."""
    try:
        dist.all_reduce(tensor, op=operation)
    except RuntimeError as error:
        if tensor.is_cuda:  # perhaps it only cannot be recorded; whoever records knows what to do
            raise
        reason = str(error).splitlines()[0][:120]
        raise GanzooError(
            f"Another process of this training is gone ({reason}). The last checkpoint is whole: resume the run."
        ) from None
