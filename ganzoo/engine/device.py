"""The device to run on, by name."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from ganzoo.contract.errors import GanzooError, UsageError


def find_device(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is CUDA where there is a device, else the CPU.

    A CUDA device becomes the current one, without TF32. Raises UsageError for another name, and GanzooError where there
    is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name!r} is not one of: auto, cpu, cuda, cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name!r} is not one of: auto, cpu, cuda, cuda:N.")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise GanzooError(
                f"--device {name}: torch sees no CUDA device here; use --device cpu, or see `ganzoo doctor`."
            )
        # with torchrun, each process has its own device
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", device.index or 0)))
        if (device.index or 0) >= torch.cuda.device_count():
            raise GanzooError(
                f"--device {device}: torch sees {torch.cuda.device_count()} CUDA devices here, counted from cuda:0."
            )
        # no TF32 in fp32: it rounds the factors of every product to 10 bits. The fast precision is bf16
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.cuda.set_device(device)
    return device


def device_name(device: torch.device) -> str:
    """The manufacturer's name of a device; for a CPU from /proc/cpuinfo on Linux, elsewhere from Python."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
