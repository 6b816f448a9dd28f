"""Latents of samples: drawn from a seed, truncated, read from a file, taken from a training grid, or on a walk."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganzoo.contract.choice import short_name
from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import UsageError
from ganzoo.engine.sampler import balanced_labels, draw_latents
from ganzoo.engine.seeds import derive
from ganzoo.results.load import TrainedGenerator

#: largest distance of the distribution of latents to a Gaussian one; that of a uniform one is above 0.1
_KOLMOGOROV_SMIRNOV = 0.03
_DRAWS = 64


def sample_latents(trained: TrainedGenerator, count: int, seed: int = 0, truncation: float | None = None) -> Tensor:
    """The latents (count, Z) of the images of `draw_images` with this seed, on the generator's device.

    Raises UsageError for a `truncation` of latents that are not Gaussian.
    """
    latents = draw_latents(trained.architecture, count, trained.device, derive(seed, "sample"))
    return _truncated(trained, latents, truncation)


def ends_of_walks(
    trained: TrainedGenerator, walks: int, seed: int, truncation: float | None = None
) -> tuple[Tensor, Tensor]:
    """The first and the last latents (walks, Z) of interpolations."""
    first, last = (
        draw_latents(trained.architecture, walks, trained.device, derive(seed, end)) for end in ("first", "last")
    )
    return _truncated(trained, first, truncation), _truncated(trained, last, truncation)


def tile_of_training(trained: TrainedGenerator, tile: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The latent (1, Z) and the label (1,) of a tile (row, column), from 1, of the grids that the training saved.

    Raises UsageError for a tile outside of the grid.
    """
    recipe = trained.run.recipe
    rows, columns = recipe.grid_shape
    row, column = tile
    if not (1 <= row <= rows and 1 <= column <= columns):
        raise UsageError(
            f"--tile {row},{column}: the grid of the training has the rows 1 to {rows} and the columns 1 to {columns}."
        )
    latents = draw_latents(trained.architecture, rows * columns, trained.device, recipe.seed)
    classes = trained.images.classes if trained.architecture.conditional else 1
    labels = balanced_labels(rows, classes, trained.device)
    index = (row - 1) * columns + column - 1
    return latents[index : index + 1], labels[row - 1 : row]


# --- given latents ----------------------------------------------------------------------------------------------------


def read_latents(trained: TrainedGenerator, given: Path | Tensor) -> tuple[Tensor, Tensor | None]:
    """Latents (N, Z) on the generator's device from a tensor or a file, and the labels (N,) that a .npz file holds.

    Raises UsageError for latents of another shape, or that are not finite numbers.
    """
    name = str(given) if isinstance(given, Path) else "These latents"
    values, labels = _arrays(given) if isinstance(given, Path) else (given.detach().cpu().numpy(), None)
    size = trained.architecture.latents(1, torch.Generator().manual_seed(0)).shape[1]
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != size or not len(values):
        shape = " x ".join(map(str, values.shape)) or "a single value"
        raise UsageError(
            f"{name}: {short_name(trained.run.recipe.architecture)} takes latents of N x {size} numbers, and these are "
            f"{shape} of {values.dtype}."
        )
    if not np.isfinite(values).all():
        raise UsageError(f"{name}: the latents hold numbers that are not finite (NaN or infinity).")
    latents = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(trained.device)
    return latents, _checked_labels(trained, labels, len(latents), name)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The latents of a .npy or .npz file, and the labels of a .npz file."""
    if path.suffix not in (".npy", ".npz"):
        raise UsageError(f"--latents {path}: the file must end in .npy, or in .npz with an array named latents.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--latents {path} cannot be read ({error.strerror}).") from None
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            return loaded["latents"], loaded["labels"] if "labels" in loaded.files else None
    except KeyError:
        raise UsageError(f"--latents {path}: the file holds no array named latents.") from None
    except Exception as error:  # numpy raises various errors for a damaged file
        raise UsageError(f"--latents {path} is not an array of numpy: {error}") from None


def _checked_labels(trained: TrainedGenerator, labels: np.ndarray | None, count: int, name: str) -> Tensor | None:
    if labels is None or not trained.architecture.conditional:
        return None
    classes = trained.images.classes
    fits = labels.shape == (count,) and labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < classes
    if not fits:
        raise UsageError(f"{name}: its labels are not {count} numbers of classes from 0 to {classes - 1}.")
    return torch.from_numpy(labels.astype(np.int64)).to(trained.device)


# --- the truncation trick ---------------------------------------------------------------------------------------------


def with_truncation(trained: TrainedGenerator, truncation: float | None) -> tuple[TrainedGenerator, float | None]:
    """The generator, truncated in the way of its architecture, and None; or itself, and the limit of its latents."""
    network = None if truncation is None else trained.architecture.truncated(trained.network, truncation)
    return (trained, truncation) if network is None else (dataclasses.replace(trained, network=network), None)


def _truncated(trained: TrainedGenerator, latents: Tensor, limit: float | None) -> Tensor:
    if limit is None:
        return latents
    if not is_gaussian(trained.architecture):
        raise UsageError(
            f"--truncation {limit:g}: the latents of {short_name(trained.run.recipe.architecture)} are not Gaussian, "
            "and only Gaussian ones can be truncated: leave it out."
        )
    return truncated(latents, limit)


def truncated(latents: Tensor, limit: float) -> Tensor:
    """Standard normal latents (N, Z) as a truncated normal distribution on [-limit, limit], in the same order.

    The truncation trick of BigGAN (Brock et al. 2019, arXiv:1809.11096): a smaller limit gives better single images,
    and less variety. BigGAN draws values outside of the limits again. Here each value is mapped to the value with the
    same share of the truncated distribution below it. That is the same distribution, a latent changes smoothly with the
    limit, and each latent remains a function of the seed and its index.
    """
    below = float(torch.special.ndtr(torch.tensor(-limit, dtype=torch.float64)))
    shares = below + torch.special.ndtr(latents.double()) * (1 - 2 * below)
    values: Tensor = torch.special.ndtri(shares)
    return values.clamp(-limit, limit).to(latents.dtype)


def is_gaussian(architecture: Architecture) -> bool:
    """Whether the latents of an architecture look like independent standard normal values.

    The contract does not name the distribution, so it is measured: the Kolmogorov-Smirnov distance of 64 or more
    latents to the normal distribution, and the spread of their lengths (which is 0 for latents on a sphere).
    """
    generator = torch.Generator().manual_seed(0)
    latents = architecture.latents(_DRAWS, generator).double()
    while latents.numel() < 8192:
        latents = torch.cat([latents, architecture.latents(_DRAWS, generator).double()])
    values = latents.flatten().sort().values
    steps = torch.arange(len(values) + 1, dtype=torch.float64) / len(values)
    expected = torch.special.ndtr(values)
    distance = torch.maximum(expected - steps[:-1], steps[1:] - expected).max()
    return float(distance) < _KOLMOGOROV_SMIRNOV and float(latents.norm(dim=1).std()) > 0.3


# --- walks ------------------------------------------------------------------------------------------------------------


def slerp(first: Tensor, last: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation: latents (N, Z) on the arcs from `first` to `last` (N, Z) at `shares` (N,) in [0, 1].

    Gaussian latents lie near a sphere, and a straight line between two of them leaves it (White, "Sampling Generative
    Networks", 2016, arXiv:1609.04468).
    """
    cosine = torch.cosine_similarity(first, last, dim=1).clamp(-0.9999, 0.9999)
    angle, shares = torch.acos(cosine)[:, None], shares[:, None].to(first.dtype)
    return (torch.sin((1 - shares) * angle) * first + torch.sin(shares * angle) * last) / torch.sin(angle)


def lerp(first: Tensor, last: Tensor, shares: Tensor) -> Tensor:
    """Linear interpolation: latents (N, Z) on the straight lines from `first` to `last` at `shares` (N,) in [0, 1]."""
    return torch.lerp(first, last, shares[:, None].to(first.dtype))


def interpolation(method: str, first: Tensor, last: Tensor, shares: Tensor) -> Tensor:
    """Latents between `first` and `last` by "slerp" or "lerp"; see these."""
    return (lerp if method == "lerp" else slerp)(first, last, shares)


def there_and_back(frames: int) -> list[float]:
    """Shares in [0, 1] of an endless animation that walks from the first latent to the last and back, smoothly."""
    return [0.5 - 0.5 * math.cos(2 * math.pi * frame / frames) for frame in range(frames)]
