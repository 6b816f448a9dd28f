"""Several processes that train together: rank, world size, and reductions over all ranks, by torch.distributed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
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


def share_of_this_rank(values: Tensor, count: int) -> Tensor:
    """The `count` values of this process, of (processes count, ...) that all processes have drawn alike."""
    return values[rank() * count : (rank() + 1) * count] if world_size() > 1 else values


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on at least one process."""
    return bool(max_over_ranks(int(flag)))


def max_over_ranks(number: int) -> int:
    """The largest of the numbers that the processes pass; each process must call this."""
    return max_of_each((number,))[0]


def max_of_each(numbers: Sequence[int]) -> list[int]:
    """For each position, the largest of the numbers that the processes pass; each process must call this."""
    if world_size() == 1:
        return list(numbers)
    largest = torch.tensor(list(numbers), dtype=torch.int64)
    _reduce(largest, dist.ReduceOp.MAX, _host_group)
    return [int(number) for number in largest.tolist()]


def same_on_all_ranks(text: str) -> bool:
    """Whether all processes pass the same text; each process must call this."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")
    largest, smallest = max_of_each((number, -number))
    return largest == -smallest


def from_first_rank(value: Any) -> Any:
    """What the first process passes, on all processes: something that JSON can hold. Each process must call this."""
    if world_size() == 1:
        return value
    data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    size = torch.tensor(len(data))
    with _connected():
        dist.broadcast(size, 0, group=_host_group)
        data = data if rank() == 0 else torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(data, 0, group=_host_group)
    return json.loads(bytes(data.tolist()))


def gather_on_first_rank(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """On the first process, the tensors of each process by name, in the order of the ranks; elsewhere an empty list.

    Names, shapes, types and strides may differ between processes. The tensors of the other processes arrive on the CPU,
    with the same bits, and in the same memory layout where it is dense. Each process must call this.
    """
    if rank() != 0:
        _send(tensors)
        return []
    return [dict(tensors), *(_receive(source) for source in range(1, world_size()))]


def _send(tensors: Mapping[str, Tensor]) -> None:
    """Send tensors by name to the first process: their description in JSON, then the bytes of each."""
    described, contents = [], []
    for name, tensor in tensors.items():
        order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)  # the axis that changes fastest comes last
        rows = tensor.detach().permute(order).cpu().contiguous()
        described.append([name, list(rows.shape), str(rows.dtype).removeprefix("torch."), order])
        contents.append(rows.reshape(-1).view(torch.uint8))
    header = torch.frombuffer(bytearray(json.dumps(described).encode()), dtype=torch.uint8)
    with _connected():
        for part in (torch.tensor(len(header)), header, *contents):
            if part.numel():
                dist.send(part, 0, group=_host_group)


def _receive(source: int) -> dict[str, Tensor]:
    """The tensors that another process passes to `_send`."""
    size, found = torch.tensor(0), {}
    with _connected():
        dist.recv(size, source, group=_host_group)
        header = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(header, source, group=_host_group)
        for name, shape, dtype, order in json.loads(bytes(header.tolist())):
            rows = torch.empty(shape, dtype=getattr(torch, dtype))
            if rows.numel():
                dist.recv(rows.view(-1).view(torch.uint8), source, group=_host_group)
            found[name] = rows.permute([order.index(axis) for axis in range(len(order))])
    return found


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
    if tensor.is_cuda:  # perhaps the operation cannot be recorded in a CUDA graph: StepGraph handles that error
        dist.all_reduce(tensor, op=operation, group=group)
        return
    with _connected():
        dist.all_reduce(tensor, op=operation, group=group)


@contextmanager
def _connected() -> Iterator[None]:
    """Raise GanzooError where the block fails because another process has ended."""
    try:
        yield
    except RuntimeError as error:
        raise GanzooError(
            f"Another process of this training has ended ({_first_line(error)}). The last checkpoint is complete: "
            f"resume the run."
        ) from None


def _first_line(error: Exception) -> str:
    """The first sentence of an error, without torch's source location, at most 120 characters."""
    first = (re.sub(r"^\[[^]]*\]\s*", "", str(error).strip()).splitlines() or [type(error).__name__])[0]
    return first.partition(". ")[0].rstrip(".")[:120]
