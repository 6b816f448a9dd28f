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


#: beginnings of the names of recorded values -> the group of numbers that they belong to
_GROUPS = {
    "g_": "images",
    "img_": "images",
    "d_logit": "logits",
    "d_cmap": "logits",
    "block": "features",
    "stage": "features",
    "mbstd": "features",
    "w": "styles",
    "bn_after": "moving statistics",
    "power": "power iteration",
    "loss": "losses",
    "grad0": "gradients",
    "ortho": "gradients",
    "after": "weights",
    "ema": "average",
    "controller": "strength",
    "schedule": "schedule",
}
#: the same for values of a step, by the end of the name: `step0/loss/r1`
_GROUPS_OF_STEPS = {"w_avg": "styles", "scores_real": "logits", "scores_fake": "logits"}


#: beginnings of the losses in the tables of the manifests
_LOSSES = ("errD", "errG", "D_loss", "G_loss", "loss_dis", "loss_gen")


def group_of(name: str) -> str:
    """The group of a recorded value: images, logits, gradients, ..."""
    if name.startswith("step"):
        return next((group for end, group in _GROUPS_OF_STEPS.items() if name.endswith(end)), "losses")
    if name.endswith(("/y", "/grad_x")):  # of augmentations
        return "images" if name.endswith("y") else "gradients"
    return next(group for beginning, group in _GROUPS.items() if name.startswith(beginning))


def by_group(errors: Mapping[str, float]) -> dict[str, float]:
    """The largest error of each group, from errors by the name of the recorded value."""
    found: dict[str, float] = {}
    for name, error in errors.items():
        found[group_of(name)] = max(found.get(group_of(name), 0.0), error)
    return found


def floor(manifest: Mapping[str, Any], name: str, dtype: torch.dtype) -> float:
    """The largest error that a value may have: 1e-9, and in float32 four times that of the official program's float32.

    Its own float32 is so far from its float64 where it computes on another machine, or in another order.
    """
    if dtype == torch.float64:
        return 1e-9
    if "float32_against_float64_of_the_official_code" not in manifest:
        return 1e-6  # a few numbers, which no float32 was recorded of
    if name.startswith("loss"):
        rows = [
            (a, b) for a, b in zip(manifest["table_float32"], manifest["table_float64"], strict=True) if not b["step"]
        ]
        losses = [(a[key], exact) for a, b in rows for key, exact in b.items() if key.startswith(_LOSSES)]
        own = max(abs(single - exact) / max(1.0, abs(exact)) for single, exact in losses)
    else:
        floors, group = manifest["float32_against_float64_of_the_official_code"], name.partition("/")[0]
        found = floors.get(group) or floors[group.partition(":")[0]]
        own = max(found.get("rel_to_group_max", 0.0), found["rel_to_tensor_max"])
    return float(4 * own + 1e-6)


@cache
def read_manifest(name: str) -> dict[str, Any]:
    """The manifest of a recording, or the whole of a small one."""
    manifest: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return manifest


@cache
def _read(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    manifest = read_manifest(name)
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return manifest, dict(arrays)


class ReadingRefused(TorchDispatchMode):
    """Within it, reading a number from a tensor (`item`, `tolist`, `if tensor`) is an error, as in a CUDA graph."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a number is read from the device"
        return func(*args, **(kwargs or {}))
