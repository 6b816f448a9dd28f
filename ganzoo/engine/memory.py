"""Free memory, and whether a dataset fits into it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import torch

from ganzoo.contract.components import Dataset
from ganzoo.engine.distributed import world_size

#: a dataset is loaded whole if it takes at most this share of the free memory of the device
MEMORY_SHARE = 0.4
#: files with the limit and the use of memory of a container, in bytes, in both versions of Linux's control groups
_CGROUP = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def fits_in_memory(dataset: Dataset, subset: range, device: torch.device) -> bool:
    """Whether the images (uint8) and labels of `subset` fit into the memory of `device`, with all processes counted."""
    size = len(subset) * (dataset.spec.pixels + 8)  # bytes; a label is int64
    if device.type == "cuda":
        return size <= MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
    size *= int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))  # each process holds all images
    return size <= MEMORY_SHARE * free_memory()


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can still allocate: of the machine, its container, or its own limits, what is least."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
        free = [int(found[1]) << 10] if found else []
    except OSError:
        free = []
    for limit, used in _CGROUP:
        with suppress(OSError, ValueError):  # no container, or one without a limit: "max"
            free.append(int((root / limit).read_text()) - int((root / used).read_text()))
    free += _below_limits(root)
    # if the free memory is unknown, half of the physical memory is assumed
    return max(0, min(free)) if free else os.sysconf("SC_PHYS_PAGES") // 2 * os.sysconf("SC_PAGE_SIZE")


def _below_limits(root: Path) -> list[int]:
    """Bytes below the limits that are set on this process with `ulimit -v` and `ulimit -d`."""
    try:
        import resource

        pages = [int(word) for word in (root / "proc/self/statm").read_text().split()]
    except (ImportError, OSError):  # not on Linux
        return []
    used = {resource.RLIMIT_AS: pages[0], resource.RLIMIT_DATA: pages[5]}
    limits = {name: resource.getrlimit(name)[0] for name in used}
    page = resource.getpagesize()
    return [limit - used[name] * page for name, limit in limits.items() if limit != resource.RLIM_INFINITY]
