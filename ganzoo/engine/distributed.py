"""Several processes that train together: rank, world size, and reductions over all ranks, by torch.distributed."""

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

#: timeout of the gloo group: between two steps, processes wait while rank 0 scores or saves. The end of a process is
#: noticed immediately, without a timeout
_TIMEOUT = timedelta(days=1)
#: the group of all processes over gloo, for flags and numbers on the host
_host_group: Any = None


class FailedOnOtherRank(GanzooError):
    """Another process of this training has failed and prints its error. This one ends with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("")
        self.exit_code = exit_code


def init_process_group(device: torch.device) -> None:
    """Join the process group if `torchrun` started this process; do nothing if it runs alone.

    On CUDA, steps use NCCL, whose timeout is 10 minutes. Rank 0 may need longer to score or save, so the processes
    synchronise over gloo before each step, with a long timeout. Gloo detects the end of a process by its closed
    connection, and does not wait for a device. Raises GanzooError where the processes cannot connect.
    """
    global _host_group
    if _host_group is not None or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    try:
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        _host_group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise GanzooError(
            f"The {os.environ['WORLD_SIZE']} processes of this training cannot connect ({_first_line(error)}): start "
            f"them with torchrun, or give each its RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."
        ) from None


def rank() -> int:
    """The index of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on at least one process."""
    return bool(max_over_ranks(int(flag)))


def max_over_ranks(number: int) -> int:
    """The largest of the numbers that the processes pass; each process must call this."""
    if world_size() == 1:
        return number
    numbers = torch.tensor(number)
    _reduce(numbers, dist.ReduceOp.MAX, _host_group)
    return int(numbers.item())


@contextmanager
def all_or_none() -> Iterator[None]:
    """Run a block on all processes; if it fails on one rank, an error is raised on all of them.

    The lowest rank with an error raises it, the others raise FailedOnOtherRank. Code in the block must not wait for
    other processes.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    if status := max_over_ranks(getattr(error, "exit_code", 1) if error else 0):
        lowest_failed = -max_over_ranks(-rank() if error else -world_size())
        raise error if error and rank() == lowest_failed else FailedOnOtherRank(status)


def mean_over_ranks(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The mean of each tensor over all processes, in one all-reduce; for one process, the tensors themselves."""
    if world_size() == 1:
        return tensors
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    _reduce(flat, dist.ReduceOp.SUM)
    flat /= world_size()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def all_gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, (processes, ...); can be differentiated any number of times."""
    if world_size() == 1:
        return tensor[None]
    before, behind = rank(), world_size() - 1 - rank()
    return _Sum.apply(pad(tensor[None], (0, 0) * tensor.ndim + (before, behind)))  # type: ignore[no-any-return]


class _Sum(torch.autograd.Function):
    """The sum over all processes. The losses of all of them depend on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        _reduce(total, dist.ReduceOp.SUM)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)  # type: ignore[no-any-return]


def _reduce(tensor: Tensor, operation: dist.ReduceOp.RedOpType, group: Any = None) -> None:
    """Reduce over all processes, in place. Raises GanzooError where a process has ended."""
    try:
        dist.all_reduce(tensor, op=operation, group=group)
    except RuntimeError as error:
        if tensor.is_cuda:  # perhaps the operation cannot be recorded in a CUDA graph: StepGraph handles that
            raise
        raise GanzooError(
            f"Another process of this training has ended ({_first_line(error)}). The last checkpoint is complete: "
            f"resume the run."
        ) from None


def _first_line(error: Exception) -> str:
    """The first sentence of an error, without torch's source location, at most 120 characters."""
    first = (re.sub(r"^\[[^]]*\]\s*", "", str(error).strip()).splitlines() or [type(error).__name__])[0]
    return first.partition(". ")[0].rstrip(".")[:120]
