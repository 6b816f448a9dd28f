"""Batch norm over several processes: its statistics are those of the images of all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ganzoo.engine.distributed import all_gather, world_size


def sync_batch_norm() -> AbstractContextManager[object]:
    """In this context, every batch norm in training mode uses the statistics of the minibatches of all processes.

    It replaces the function `torch.batch_norm`, which the layers of plugins call too. torch.nn.SyncBatchNorm replaces
    layers instead, only those of torch's own classes, and does not run on a CPU.
    """
    return _SyncBatchNorm() if world_size() > 1 else nullcontext()


class _SyncBatchNorm(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.batch_norm:  # torch's own F.batch_norm calls torch.batch_norm below this mode
            return _functional_batch_norm(*args, **(kwargs or {}))
        return (_batch_norm if func is torch.batch_norm else func)(*args, **(kwargs or {}))


def _functional_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    cudnn = torch.backends.cudnn.enabled
    return _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn)


def _batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """torch.batch_norm of inputs (N, C, ...), with statistics over the images of all processes."""
    if not training:
        return torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled)
    # statistics in 32 bits at least, as in torch's own kernels
    values = input.to(torch.promote_types(input.dtype, torch.float32))
    mean, variance = _mean_and_variance(values)
    _update_running(running_mean, mean, momentum)
    count = world_size() * values.numel() // values.shape[1]
    _update_running(running_var, variance * (count / (count - 1)), momentum)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    axes = (1, -1, *(1,) * (values.ndim - 2))
    normalised = (values - mean.view(axes)) * scale.view(axes)
    return (normalised if bias is None else normalised + bias.view(axes)).to(input.dtype)


def _mean_and_variance(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of values (N, C, ...) over all processes, which have the same N."""
    own = torch.var_mean(values, [axis for axis in range(values.ndim) if axis != 1], correction=0)
    variances, means = all_gather(torch.stack(own)).unbind(1)  # (processes, C) each
    mean = means.mean(0)
    # from means and variances, with one all-gather: E x^2 - (E x)^2 would lose digits
    return mean, variances.mean(0) + (means - mean).square().mean(0)


@torch.no_grad()
def _update_running(running: Tensor | None, value: Tensor, momentum: float) -> None:
    if running is not None:
        running.lerp_(value.to(running.dtype), momentum)
