"""Rank, world size, and what processes that play together tell each other: torch.distributed and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

from ganzoo.contract.errors import GanzooError

#: how long a process waits between two steps for one that scores or saves; that one of them is gone is noticed at once
_PATIENCE = timedelta(days=1)
#: the processes once more, over gloo: what they say to each other, beside what they compute
_talk: Any = None


class FailedOnOtherRank(GanzooError):
    """Another process of this training has failed, and says why; this one ends like it, without a word."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("")
        self.exit_code = exit_code


def init_process_group(device: torch.device) -> None:
    """Join the other processes when `torchrun` started this one; do nothing when it runs alone.

    Steps are shared over NCCL on CUDA, and NCCL takes a process for lost that is 10 minutes late, while rank 0 may
    score or save for longer. So the processes meet over gloo before each step, where they may wait for long: it knows
    that a peer is gone by its closed connection, and needs no device to wait for.
    """
    global _talk
    if _talk is not None or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    try:
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        _talk = dist.new_group(backend="gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise GanzooError(
            f"The {os.environ['WORLD_SIZE']} processes of this training cannot meet ({_first_line(error)}): start them "
            f"with torchrun, or give each its RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."
        ) from None


def rank() -> int:
    """This process among its peers, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that play together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on at least one process: all of them must leave the loop at the same step."""
    return bool(max_over_ranks(int(flag)))


def max_over_ranks(number: int) -> int:
    """The highest of the numbers of all processes."""
    if world_size() == 1:
        return number
    numbers = torch.tensor(number)
    _reduce(numbers, dist.ReduceOp.MAX, _talk)
    return int(numbers.item())


@contextmanager
def all_or_none() -> Iterator[None]:
    """Let all processes go on behind this, or none: where it raises on one, it raises on all, and one says why.

    What is done in it must not wait for other processes.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    if status := max_over_ranks(getattr(error, "exit_code", 1) if error else 0):
        speaker = -max_over_ranks(-rank() if error else -world_size())
        raise error if error and rank() == speaker else FailedOnOtherRank(status)


def mean_over_ranks(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Each tensor averaged over all processes, in one all-reduce; on one process, the tensors themselves."""
    if world_size() == 1:
        return tensors
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    _reduce(flat, dist.ReduceOp.SUM)
    flat /= world_size()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def all_gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, (processes, ...); can be differentiated, again and again."""
    if world_size() == 1:
        return tensor[None]
    before, behind = rank(), world_size() - 1 - rank()
    return _Sum.apply(pad(tensor[None], (0, 0) * tensor.ndim + (before, behind)))  # type: ignore[no-any-return]


class _Sum(torch.autograd.Function):
    """The sum over all processes; a cost of any of them reaches it, so its gradient is the sum of all gradients."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        _reduce(total, dist.ReduceOp.SUM)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)  # type: ignore[no-any-return]


def _reduce(tensor: Tensor, operation: dist.ReduceOp.RedOpType, group: Any = None) -> None:
    """Reduce over all processes, in place. Raises GanzooError where one of them is gone."""
    try:
        dist.all_reduce(tensor, op=operation, group=group)
    except RuntimeError as error:
        if tensor.is_cuda:  # perhaps it only cannot be recorded; whoever records knows what to do
            raise
        raise GanzooError(
            f"Another process of this training is gone ({_first_line(error)}). The last checkpoint is whole: resume "
            f"the run."
        ) from None


def _first_line(error: Exception) -> str:
    """What an error says first, without the place in torch's sources and what torch guesses."""
    first = (re.sub(r"^\[[^]]*\]\s*", "", str(error).strip()).splitlines() or [type(error).__name__])[0]
    return first.partition(". ")[0].rstrip(".")[:120]
