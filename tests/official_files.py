"""Checkpoints in the layouts of official programs, with the weights of the published fixtures."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from published import Published
from torch import Tensor


def state(fixture: Published, network: str) -> OrderedDict[str, Tensor]:
    """The tensors of a network ("G", "D") of a fixture, under their official names, with counters of batches."""
    drawn = fixture.draw("weights")
    found: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in drawn.items():
        letter, _, rest = name.partition("/")
        if letter == network:
            found[rest] = torch.from_numpy(np.asarray(value).astype(np.float32))
            if rest.endswith("running_var"):
                found[rest.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
            if rest.endswith("weight_orig"):
                rows = found[rest].flatten(1)
                left, _, right = torch.linalg.svd(rows, full_matrices=False)
                found[rest.replace("_orig", "_u")], found[rest.replace("_orig", "_v")] = left[:, 0], right[0]
    return found


def write_mimicry(fixture: Published, folder: Path) -> list[Path]:
    """netG and netD of mimicry: a dict with the state, the optimiser's and the step."""
    files = [folder / f"net{letter}_100000_steps.pth" for letter in "GD"]
    for path, letter in zip(files, "GD", strict=True):
        weights = state(fixture, letter)
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
        saved = {"model_state_dict": weights, "optimizer_state_dict": optimizer, "global_step": 100_000}
        torch.save(saved, path)
    return files


def write_plain(fixture: Published, folder: Path) -> list[Path]:
    """netG and netD of the PyTorch examples: state dicts alone."""
    files = [folder / f"net{letter}_epoch_24.pth" for letter in "GD"]
    for path, letter in zip(files, "GD", strict=True):
        torch.save(state(fixture, letter), path)
    return files


def write_biggan(fixture: Published, folder: Path) -> list[Path]:
    """G_ema and D of BigGAN-PyTorch: state dicts with the vector and the value of each spectral norm."""
    files = [folder / "G_ema.pth", folder / "D.pth"]
    named = {key.partition(":")[2].partition("#")[0] for key in fixture.numbers if key.startswith("after0:")}
    for path, letter in zip(files, "GD", strict=True):
        weights = state(fixture, letter)
        for name in list(weights):
            vector = name.removesuffix("weight") + "u0"
            if f"{letter}/{vector}" in named:
                weights[vector] = torch.linalg.svd(weights[name].flatten(1), full_matrices=False)[0][:, :1].T
                weights[name.removesuffix("weight") + "sv0"] = torch.ones(1)
        torch.save(weights, path)
    return files
