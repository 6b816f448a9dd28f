"""Together: on several processes, batch norm takes the statistics of all of their images, as one process would."""

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
    """While this is entered, the minibatches of all processes are one to every batch norm that is in training mode.

    It replaces the function that all such layers end in, those of plugins included: torch.nn.SyncBatchNorm would have
    to be put in the place of each layer, knows torch's own classes only and refuses a CPU.
    """
    return _OneBatch() if world_size() > 1 else nullcontext()


class _OneBatch(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.batch_norm:  # it is seen before torch.batch_norm, which it calls
            return _functional(*args, **(kwargs or {}))
        return (_batch_norm if func is torch.batch_norm else func)(*args, **(kwargs or {}))


def _functional(
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
    """torch.batch_norm over axis 1 of (N, C, ...), N being the images of all processes."""
    if not training:
        return torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled)
    # as in torch's own kernels, statistics of numbers of 16 bits have 32
    values = input.to(torch.promote_types(input.dtype, torch.float32))
    mean, variance = _moments(values)
    _follow(running_mean, mean, momentum)
    count = world_size() * values.numel() // values.shape[1]
    _follow(running_var, variance * (count / (count - 1)), momentum)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    axes = (1, -1, *(1,) * (values.ndim - 2))
    normalised = (values - mean.view(axes)) * scale.view(axes)
    return (normalised if bias is None else normalised + bias.view(axes)).to(input.dtype)


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of values (N, C, ...) over the N of all processes, which all have as many."""
    mine = torch.var_mean(values, [axis for axis in range(values.ndim) if axis != 1], correction=0)
    variances, means = all_gather(torch.stack(mine)).unbind(1)  # (processes, C) each
    mean = means.mean(0)
    # one exchange, and nothing large is subtracted from something large
    return mean, variances.mean(0) + (means - mean).square().mean(0)


@torch.no_grad()
def _follow(running: Tensor | None, value: Tensor, momentum: float) -> None:
    if running is not None:
        running.lerp_(value.to(running.dtype), momentum)
