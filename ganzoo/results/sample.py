"""Sample: images from a trained generator as a function of a seed: a grid, an interpolation, an animation, an array."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganzoo.contract.choice import short_name
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.engine.sampler import balanced_labels, draw_all, draw_latents
from ganzoo.engine.seeds import derive
from ganzoo.registry.zoo import Zoo
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo.storage import pictures
from ganzoo.storage.files import write_atomically
from ganzoo.storage.run import Run

#: frames of an animated interpolation, and tiles of a drawn one
_FRAMES = 48


def sample(
    path: Path,
    zoo: Zoo,
    device: torch.device,
    out: Path | None = None,
    count: int | None = None,
    shape: tuple[int, int] | None = None,
    seed: int = 0,
    label: int | None = None,
    interpolate: bool = False,
    animate: bool = False,
    at: int | str | None = None,
    changed_code: bool = False,
) -> Path:
    """Draw from the run in `path` and say where the picture lies.

    `shape` is (rows, columns). With `animate` alone the grids saved during training become a GIF; with `interpolate`
    the walk between latents does. An `out` that ends in .npy takes the images themselves, uint8 (N, C, H, W).
    """
    if animate and not interpolate:
        if count is not None or shape is not None or label is not None or at is not None:
            raise UsageError("--gif shows the grids of the training as they are; for new images add --interpolate.")
        return training_gif(Run.open(path), out or path / "training.gif")
    trained = load_generator(path, zoo, device, at, changed_code)
    rows, columns = grid_shape(count, shape, trained.run.recipe.grid_shape)
    count = rows * columns if interpolate else count or rows * columns
    suffix = ".gif" if animate else ".png"
    out = out or path / f"{'interpolation' if interpolate else 'sample'}-{seed}{suffix}"
    _refuse_suffix(out, (suffix,) if interpolate else (".png", ".npy"))
    classes = None if label is None else (label,)
    # an array has no rows to show a class each: there the class of an image is a function of its index alone
    if interpolate:
        return _interpolation(trained, (rows, columns), _labels(trained, count, columns, classes), seed, out)
    images, labels = draw_images(trained, count, 1 if out.suffix == ".npy" else columns, seed, classes)
    if out.suffix == ".npy":
        data = io.BytesIO()
        np.save(data, images.numpy(), allow_pickle=False)
        write_atomically(out, data.getvalue())
    else:
        names = row_names(trained, labels[::columns]) if label is not None or count == rows * columns else []
        pictures.save_png(pictures.grid(images, columns, row_labels=names), out)
    return out


def draw_images(
    trained: TrainedGenerator, count: int, columns: int, seed: int, classes: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """uint8 images (count, C, H, W) on the CPU and their labels (count,), as a function of the seed.

    Each row of `columns` images has one class: the rows take the given classes in turn, or all of them.
    Raises UsageError for a class that cannot be drawn.
    """
    labels = _labels(trained, count, columns, classes)
    latents = sample_latents(trained, count, seed)
    return draw_all(trained.network, trained.architecture, latents, labels), labels


def sample_latents(trained: TrainedGenerator, count: int, seed: int) -> Tensor:
    """(count, Z) latents of the samples of a seed, on the generator's device."""
    return draw_latents(trained.architecture, count, trained.device, derive(seed, "sample"))


def training_gif(run: Run, out: Path) -> Path:
    """The sample grids of a run as an animation. Raises GanzooError where it has none."""
    found = [file for file in (run.path / "samples").glob("*.png") if file.stem.isdigit()]
    files = sorted(found, key=lambda file: int(file.stem))
    if not files:
        raise GanzooError(f"{run.path} has no sample grids to animate; train it, or lower --samples-every.")
    _refuse_suffix(out, (".gif",))
    frames = []
    for file in files:
        try:
            with Image.open(file, formats=("PNG",)) as picture:  # others, EPS for one, start programs to be read
                frames.append(picture.convert("RGB"))
        except Exception as error:  # decoders differ, and none promises what it raises
            raise GanzooError(f"{file} is not a grid of this training ({type(error).__name__}): delete it.") from None
    pictures.save_gif(frames, out, seconds=max(0.08, min(0.4, 10 / len(frames))))
    return out


def _interpolation(trained: TrainedGenerator, shape: tuple[int, int], labels: Tensor, seed: int, out: Path) -> Path:
    rows, columns = shape
    animate = out.suffix == ".gif"
    ends = rows * columns if animate else rows
    first = draw_latents(trained.architecture, ends, trained.device, derive(seed, "first"))
    last = draw_latents(trained.architecture, ends, trained.device, derive(seed, "last"))
    if not animate:
        shares = torch.linspace(0, 1, columns, device=trained.device).repeat(rows)
        latents = slerp(first.repeat_interleave(columns, 0), last.repeat_interleave(columns, 0), shares)
        images = draw_all(trained.network, trained.architecture, latents, labels)
        pictures.save_png(pictures.grid(images, columns, row_labels=row_names(trained, labels[::columns])), out)
        return out
    frames = []
    for share in (0.5 - 0.5 * torch.cos(torch.linspace(0, 2 * torch.pi, _FRAMES + 1)[:-1])).tolist():
        latents = slerp(first, last, torch.full((ends,), share, device=trained.device))
        frames.append(pictures.grid(draw_all(trained.network, trained.architecture, latents, labels[:ends]), columns))
    pictures.save_gif(frames, out, seconds=0.08, hold=0.08)
    return out


def slerp(first: Tensor, last: Tensor, shares: Tensor) -> Tensor:
    """Points on the arcs from `first` to `last` (N, Z) at `shares` (N,) in [0, 1]: a straight line between Gaussian
    latents passes through a shell that holds none of them (White, "Sampling Generative Networks", 2016)."""
    cosine = torch.cosine_similarity(first, last, dim=1).clamp(-0.9999, 0.9999)
    angle, shares = torch.acos(cosine)[:, None], shares[:, None].to(first.dtype)
    return (torch.sin((1 - shares) * angle) * first + torch.sin(shares * angle) * last) / torch.sin(angle)


def grid_shape(count: int | None, shape: tuple[int, int] | None, default: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) for `count` images: `shape` if given, else about a square; without a count `default`.

    Raises UsageError where `count` images do not fill `shape`.
    """
    if shape is not None:
        if count is not None and not shape[0] * shape[1] - shape[1] < count <= shape[0] * shape[1]:
            raise UsageError(f"-n {count} images do not fill a grid of {shape[0]}x{shape[1]}; give one of the two.")
        return shape
    if count is None:
        return default
    columns = min(16, max(1, round(count**0.5)))
    return -(-count // columns), columns


def _labels(trained: TrainedGenerator, count: int, columns: int, chosen: Sequence[int] | None) -> Tensor:
    classes, rows = trained.images.classes, -(-count // columns)
    if chosen is None:
        return balanced_labels(rows, classes, trained.device).repeat_interleave(columns)[:count]
    for label in chosen:
        if not trained.architecture.conditional:
            name = short_name(trained.run.recipe.architecture)
            raise UsageError(f"--class {label}: {name} is not conditional, it draws no class on demand.")
        if not 0 <= label < classes:
            raise UsageError(f"--class {label}: the run's dataset has the classes 0 to {classes - 1}.")
    if not chosen:
        raise UsageError("No class is named; leave classes out to draw from all of them.")
    of_rows = torch.as_tensor(chosen, device=trained.device)[balanced_labels(rows, len(chosen), trained.device)]
    return of_rows.repeat_interleave(columns)[:count]


def row_names(trained: TrainedGenerator, labels: Tensor) -> list[str]:
    """The class names of the rows of a grid; none where the architecture is not conditional."""
    return [trained.class_names[label] for label in labels.tolist()] if trained.architecture.conditional else []


def _refuse_suffix(out: Path, suffixes: tuple[str, ...]) -> None:
    if out.suffix not in suffixes:
        raise UsageError(f"-o {out}: the file must end in {' or '.join(suffixes)} here.")
    if not out.parent.is_dir():
        raise UsageError(f"-o {out}: there is no directory {out.parent}.")
