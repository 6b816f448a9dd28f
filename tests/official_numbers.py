"""Recorded numbers of official GAN programs, with the weights, inputs and draws that belong to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

FOLDER = Path(__file__).parent / "golden" / "modern"


def redraw(rule: Mapping[str, Any]) -> dict[str, Tensor]:
    """The arrays of a stream, float32 or int64: drawn one after the other from its seed, checked by their sha256."""
    state, digest, arrays = np.random.RandomState(rule["seed"]), hashlib.sha256(), {}
    for entry in rule["arrays"]:
        shape, kind = entry["shape"], entry["draw"]
        if kind == "normal":
            values = entry["mean"] + entry["std"] * state.standard_normal(shape)
        elif kind == "uniform":
            values = state.uniform(entry["low"], entry["high"], shape)
        else:
            values = state.randint(entry["low"], entry["high"], shape)
        drawn = np.asarray(values).astype(np.int64 if kind == "integers" else np.float32)
        digest.update(drawn.tobytes())
        arrays[entry["name"]] = torch.from_numpy(drawn)
    assert digest.hexdigest() == rule["sha256"]
    return arrays


class Recording:
    """One recording: `manifest` and the recorded values in one precision."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self.manifest, self.values = _read(name)
        self.dtype = dtype
        self.prefix = "f32/" if dtype == torch.float32 else "f64/"

    def draws(self, stream: str) -> dict[str, Tensor]:
        """The arrays of a stream (`weights`, `inputs`, `random`) in this precision."""
        arrays = redraw(self.manifest[stream])
        return {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in arrays.items()}

    def names(self, beginning: str) -> list[str]:
        """Names of recorded values that begin so, without what follows `#`."""
        found = (name[len(self.prefix) :].partition("#")[0] for name in self.values if name.startswith(self.prefix))
        return sorted({name for name in found if name.startswith(beginning)})

    def error(self, name: str, value: Tensor, scale: float = 0.0) -> float:
        """The largest difference from the recorded value, relative to its largest number or to `scale`."""
        found, expected = self._pair(name, value)
        assert found.shape == expected.shape, (name, found.shape, expected.shape)
        return float(np.abs(found - expected).max() / max(np.abs(expected).max(), scale, 1e-30))

    def largest(self, name: str) -> float:
        """The largest absolute number of a recorded value."""
        found = [np.abs(self.values[key]).max() for key in self._keys(name) if "#stats" not in key]
        return float(max(found))

    def _keys(self, name: str) -> list[str]:
        full = self.prefix + name
        return [key for key in (full, f"{full}#samples", f"{full}#stats") if key in self.values]

    def _pair(self, name: str, value: Tensor) -> tuple[np.ndarray, np.ndarray]:
        found = value.detach().numpy().astype(np.float64)
        full = self.prefix + name
        if full in self.values:
            return found.reshape(self.values[full].shape), self.values[full].astype(np.float64)
        flat = found.ravel()
        places = np.unique(np.round(np.linspace(0, flat.size - 1, 64)).astype(int))
        return flat[places], self.values[f"{full}#samples"].astype(np.float64)


@cache
def _read(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    manifest = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return manifest, dict(arrays)


class ReadingRefused(TorchDispatchMode):
    """Within it, reading a number from a tensor (`item`, `tolist`, `if tensor`) is an error, as in a CUDA graph."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a number is read from the device"
        return func(*args, **(kwargs or {}))
