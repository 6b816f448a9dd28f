"""The numerical settings of all extractors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Plain float32 without gradients: a score must not depend on the settings of the caller.

    Among them is `torch.set_float32_matmul_precision`, which allows TF32 on CUDA, and bfloat16 on CPUs that have it.
    """
    cuda = device.type == "cuda"
    cudnn = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False) if cuda else nullcontext()
    with torch.no_grad(), torch.autocast(device.type, enabled=False), cudnn, _ieee(device):
        yield


@contextmanager
def _ieee(device: torch.device) -> Iterator[None]:
    """Products of float32 numbers in float32. The settings of the caller are restored."""
    backends: Any = torch.backends  # mypy does not know the attributes that it has at run time
    settings = [backends.cuda.matmul] if device.type == "cuda" else [backends.mkldnn.matmul, backends.mkldnn.conv]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision
