"""What is known of the reals already: statistics kept on disk, so that no evaluation computes them twice.

    CACHE/statistics/KEY.safetensors

The key is a digest of all they depend on. The facts behind it and a digest of the tensors lie in the file itself; one
that is damaged, or of other facts, counts as absent. Files are whole or absent, so any number of processes may share
the folder: at worst two compute the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.paths import cache_dir
from ganzoo.storage.files import digest_of, write_atomically
from ganzoo.storage.tensors import tensors_from_bytes, tensors_to_bytes


def path_of(facts: Mapping[str, Any]) -> Path:
    """Where the statistics of these facts lie."""
    return cache_dir() / "statistics" / f"{digest_of(facts)[:32]}.safetensors"


def load(facts: Mapping[str, Any], device: torch.device) -> dict[str, Tensor] | None:
    """The statistics of these facts on `device`; None where there are none, or none that are whole."""
    try:
        tensors, metadata = tensors_from_bytes(path_of(facts).read_bytes())
    except (OSError, ValueError):
        return None
    if metadata != {"facts": json.dumps(facts, sort_keys=True)}:
        return None
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def save(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Keep the statistics of these facts; what cannot be kept is computed again next time."""
    path = path_of(facts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, tensors_to_bytes(tensors, {"facts": json.dumps(facts, sort_keys=True)}))
        # of processes that were killed; one that is still writing the same fails, which costs nothing
        for leftover in path.parent.glob(f".{path.name}.*"):
            leftover.unlink(missing_ok=True)
    except OSError:
        return  # a read-only or full cache folder must not cost a score
