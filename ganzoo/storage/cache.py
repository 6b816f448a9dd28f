"""Results kept on disk, so that no evaluation computes them twice: statistics of real images, and scores.

    CACHE/FOLDER/KEY.safetensors    tensors
    CACHE/FOLDER/KEY.json           scores

The key is a digest of the facts that the result depends on. The facts themselves and a digest of the content are in the
file; a file that is damaged or has other facts counts as absent. Files are complete or absent, so any number of
processes may share a folder: at worst two of them compute the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.paths import cache_dir
from ganzoo.storage.files import digest_of, parse_json, write_atomically
from ganzoo.storage.tensors import tensors_from_bytes, tensors_to_bytes


@dataclass(frozen=True)
class Cache:
    """One folder of results below `ganzoo.cache_dir()`."""

    folder: str

    def path_of(self, facts: Mapping[str, Any], suffix: str = ".safetensors") -> Path:
        """The file of the result with these facts."""
        return cache_dir() / self.folder / f"{digest_of(facts)[:32]}{suffix}"

    def load_tensors(self, facts: Mapping[str, Any], device: torch.device) -> dict[str, Tensor] | None:
        """The tensors saved for these facts, on `device`; None where there is no undamaged file."""
        try:
            tensors, metadata = tensors_from_bytes(self.path_of(facts).read_bytes())
        except Exception:  # of a damaged file, its readers may raise anything
            return None
        if metadata != {"facts": json.dumps(facts, sort_keys=True)}:
            return None
        return {name: tensor.to(device) for name, tensor in tensors.items()}

    def save_tensors(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Save tensors for these facts. Where that fails, they are computed again next time."""
        data = tensors_to_bytes(tensors, {"facts": json.dumps(facts, sort_keys=True)})
        _write(self.path_of(facts), data)

    def load_scores(self, facts: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
        """The scores saved for these facts; None where there is no undamaged file."""
        try:
            entry = parse_json(self.path_of(facts, ".json").read_bytes())
            scores: dict[str, dict[str, Any]] = entry["scores"]
            undamaged = entry == _entry(facts, scores)
        except Exception:  # of a damaged file, its readers may raise anything
            return None
        return scores if undamaged else None

    def save_scores(self, facts: Mapping[str, Any], scores: Mapping[str, Any]) -> None:
        """Save scores, plain data, for these facts. Where that fails, they are computed again next time."""
        _write(self.path_of(facts, ".json"), json.dumps(_entry(facts, scores), indent=1).encode())


def _entry(facts: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file of scores. It goes through JSON, so that it equals what is read back."""
    content = json.loads(json.dumps({"facts": facts, "scores": scores}))
    return {**content, "sha256": digest_of(content)}


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
        # of processes that were killed; one that is still writing the same fails, which costs nothing
        for leftover in path.parent.glob(f".{path.name}.*"):
            leftover.unlink(missing_ok=True)
    except OSError:
        return  # a read-only or full cache folder must not cost a score
