"""Sample: images from a trained generator as a function of a seed: a grid, an interpolation, an animation, an array."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganzoo.contract.choice import short_name
from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.paths import is_directory
from ganzoo.engine.sampler import balanced_labels, draw_all, draw_latents
from ganzoo.engine.seeds import derive
from ganzoo.registry.zoo import Zoo
from ganzoo.results.load import TrainedGenerator, load_generator, open_run
from ganzoo.storage import pictures
from ganzoo.storage.files import write_atomically
from ganzoo.storage.run import Run

#: frames of an animated interpolation
_FRAMES = 48


def sample(
    path: Path,
    zoo: Zoo,
    device: torch.device,
    out: Path | None = None,
    count: int | None = None,
    shape: tuple[int, int] | None = None,
    seed: int = 0,
    label: int | str | None = None,
    interpolate: bool = False,
    animate: bool = False,
    at: int | str | None = None,
    changed_code: bool = False,
    note: Callable[[str], None] = print,
) -> Path:
    """Draw images of the run in `path`, write them to `out` (None: a file in the run) and return the path of the file.

    The file is a grid (.png) of `shape` (rows, columns), or the uint8 array (N, C, H, W) itself if `out` ends in .npy;
    the classes of a conditional generator's array are then written beside it, see `labels_file`. `label` is the number
    or the name of a class. The name of a file in the run says what was asked for, so that no other request overwrites
    it.
    `interpolate` draws walks between latents instead: one a row of the grid, or with `animate` as a GIF.
    `note` receives messages for the user. `animate` alone makes a GIF of the grids that were saved during training.
    Raises UsageError if the arguments contradict each other or the file cannot be written, before anything is drawn.
    """
    if animate and not interpolate:
        if count is not None or shape is not None or label is not None or at is not None or seed:
            raise UsageError("--gif shows the grids of the training as they are; for new images add --interpolate.")
        return training_gif(Run.open(path), out or path / "training.gif")
    suffix = ".gif" if animate else ".png"
    if out is not None:
        _check_out(out, (suffix,) if interpolate else (".png", ".npy"))
    rows, columns = grid_shape(count, shape, open_run(path, zoo).recipe.grid_shape)
    trained = load_generator(path, zoo, device, at, changed_code, note)
    classes = None if label is None else (class_number(trained, label),)
    if out is None:
        named = f"-{count}" if count is not None and shape is None else f"-{rows}x{columns}" if shape else ""
        what = f"{'interpolation' if interpolate else 'sample'}-{seed}{_file_words(trained, classes, at)}{named}"
        out = trained.run.pictures / f"{what}{suffix}"
    _refuse_read_only(out)
    if animate:
        _write_interpolation_gif(trained, rows, columns, seed, classes, out)
    elif interpolate:
        images, labels = draw_interpolations(trained, rows, columns, seed, classes)
        pictures.save_png(pictures.grid(images, columns, row_labels=row_names(trained, labels[::columns])), out)
    elif out.suffix == ".npy":
        # an array has no rows with a class each: the class of an image is a function of its index alone
        images, labels = draw_images(trained, count or rows * columns, 1, seed, classes)
        _write_array(images, out)
        if trained.architecture.conditional:
            _write_labels(trained, labels, labels_file(out))
    else:
        count = count or rows * columns
        images, labels = draw_images(trained, count, columns, seed, classes)
        names = row_names(trained, labels[::columns]) if label is not None or count == rows * columns else []
        pictures.save_png(pictures.grid(images, columns, row_labels=names), out)
    return out


# --- images as tensors ------------------------------------------------------------------------------------------------


def draw_images(
    trained: TrainedGenerator, count: int, columns: int = 1, seed: int = 0, classes: Sequence[int | str] | None = None
) -> tuple[Tensor, Tensor]:
    """`count` images, uint8 (count, C, H, W) on the CPU, and their labels, int64 (count,) on the generator's device.

    They are a function of the seed, and the first ones do not depend on `count`. The images have one class for each
    `columns` in a row: the `classes` in turn, numbers or names (None: all classes of the dataset).
    Raises UsageError for a class that the generator cannot draw.
    """
    labels = _labels(trained, count, columns, classes)
    return draw_all(trained.network, trained.architecture, sample_latents(trained, count, seed), labels), labels


def sample_latents(trained: TrainedGenerator, count: int, seed: int = 0) -> Tensor:
    """The latents (count, Z) of the images of `draw_images` with this seed, on the generator's device."""
    return draw_latents(trained.architecture, count, trained.device, derive(seed, "sample"))


def draw_interpolations(
    trained: TrainedGenerator, rows: int, columns: int, seed: int = 0, classes: Sequence[int | str] | None = None
) -> tuple[Tensor, Tensor]:
    """`rows` walks of `columns` images each, between two latents drawn from the seed; the class of a walk is fixed.

    Returns uint8 images (rows * columns, C, H, W) on the CPU, row by row, and their labels (rows * columns,).
    """
    labels = _labels(trained, rows * columns, columns, classes)
    first, last = _ends(trained, rows, seed)
    shares = torch.linspace(0, 1, columns, device=trained.device).repeat(rows)
    latents = slerp(first.repeat_interleave(columns, 0), last.repeat_interleave(columns, 0), shares)
    return draw_all(trained.network, trained.architecture, latents, labels), labels


def _ends(trained: TrainedGenerator, walks: int, seed: int) -> tuple[Tensor, Tensor]:
    """The first and the last latents (walks, Z) of interpolations."""
    architecture, device = trained.architecture, trained.device
    first = draw_latents(architecture, walks, device, derive(seed, "first"))
    return first, draw_latents(architecture, walks, device, derive(seed, "last"))


def slerp(first: Tensor, last: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation: latents (N, Z) on the arcs from `first` to `last` (N, Z) at `shares` (N,) in [0, 1].

    Gaussian latents lie near a sphere, and a straight line between two of them leaves it (White, "Sampling Generative
    Networks", 2016, arXiv:1609.04468).
    """
    cosine = torch.cosine_similarity(first, last, dim=1).clamp(-0.9999, 0.9999)
    angle, shares = torch.acos(cosine)[:, None], shares[:, None].to(first.dtype)
    return (torch.sin((1 - shares) * angle) * first + torch.sin(shares * angle) * last) / torch.sin(angle)


def grid_shape(count: int | None, shape: tuple[int, int] | None, default: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of a grid of `count` images: `shape` if it is given, else about a square; `default` without both.

    Raises UsageError if `count` images do not fill `shape`.
    """
    if shape is not None:
        if count is not None and not shape[0] * shape[1] - shape[1] < count <= shape[0] * shape[1]:
            raise UsageError(f"-n {count} images do not fill a grid of {shape[0]}x{shape[1]}; give one of the two.")
        return shape
    if count is None:
        return default
    columns = min(16, max(1, round(count**0.5)))
    return -(-count // columns), columns


def _labels(trained: TrainedGenerator, count: int, columns: int, classes: Sequence[int | str] | None) -> Tensor:
    known = trained.images.classes
    numbers = range(known) if classes is None else [class_number(trained, label) for label in classes]
    if not numbers:
        raise UsageError("No class is named; leave the classes out to draw all of them.")
    chosen = torch.as_tensor(numbers, device=trained.device)
    of_rows = chosen[balanced_labels(-(-count // columns), len(chosen), trained.device)]
    return of_rows.repeat_interleave(columns)[:count]


def class_number(trained: TrainedGenerator, label: int | str) -> int:
    """The number of a class of the run's dataset, from its number (int) or its name.

    A text that is no name is read as a number, unless some class has a number as its name: `2` is then always a name.
    Raises UsageError for a class that the generator cannot draw.
    """
    if not trained.architecture.conditional:
        name = short_name(trained.run.recipe.architecture)
        raise UsageError(f"--class {label}: {name} is not conditional, it draws no class on demand.")
    names = [str(name) for name in trained.class_names]
    if isinstance(label, str) and label in names:
        return names.index(label)
    numbered = not any(name.isdecimal() for name in names)
    if isinstance(label, str) and numbered and label.isdecimal() and len(label) < 10:
        label = int(label)
    if isinstance(label, int) and 0 <= label < trained.images.classes:
        return int(label)
    raise UsageError(f"--class {label}: the run's dataset has the classes {_class_list(names)}.{_near(label, names)}")


def _near(label: int | str, names: Sequence[str]) -> str:
    return did_you_mean(label, names) if isinstance(label, str) else ""


def _class_list(names: Sequence[str]) -> str:
    """`0 to 9` where the numbers are the names, else `cats, dogs` (0 to 1)."""
    last = len(names) - 1
    if list(names) == [str(number) for number in range(len(names))]:
        return f"0 to {last}"
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"{shown} (numbers 0 to {last})"


def row_names(trained: TrainedGenerator, labels: Tensor) -> list[str]:
    """The class names of `labels`, one for each row of a grid; none if the generator is not conditional."""
    return [trained.class_names[label] for label in labels.tolist()] if trained.architecture.conditional else []


# --- files ------------------------------------------------------------------------------------------------------------


def _write_array(images: Tensor, out: Path) -> None:
    data = io.BytesIO()
    np.save(data, images.numpy(), allow_pickle=False)
    write_atomically(out, data.getvalue())


def labels_file(array: Path) -> Path:
    """The file beside an array of samples, `x.labels.csv` for `x.npy`: columns image (its index), label and class."""
    return array.with_suffix(".labels.csv")


def _write_labels(trained: TrainedGenerator, labels: Tensor, out: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "class"])
    writer.writerows((index, label, trained.class_names[label]) for index, label in enumerate(labels.tolist()))
    write_atomically(out, text.getvalue().encode(errors="surrogateescape"))


def _file_words(trained: TrainedGenerator, classes: Sequence[int] | None, at: int | str | None) -> str:
    """The words for classes and `at` in a file name: `-class-7`, `-class-2-dogs`, `-at-best`."""
    words = ""
    for number in classes or ():
        name = re.sub(r"\W+", "-", str(trained.class_names[number])).strip("-")[:40]
        words += f"-class-{number}" + (f"-{name}" if name and name != str(number) else "")
    return words if at is None else f"{words}-at-{at}"


def _write_interpolation_gif(
    trained: TrainedGenerator, rows: int, columns: int, seed: int, classes: Sequence[int | str] | None, out: Path
) -> None:
    """A grid in which each tile walks from its first to its last latent and back, as an endless animation."""
    count = rows * columns
    labels = _labels(trained, count, columns, classes)
    first, last = _ends(trained, count, seed)
    frames = []
    for share in (0.5 - 0.5 * torch.cos(torch.linspace(0, 2 * torch.pi, _FRAMES + 1)[:-1])).tolist():
        latents = slerp(first, last, torch.full((count,), share, device=trained.device))
        frames.append(pictures.grid(draw_all(trained.network, trained.architecture, latents, labels), columns))
    pictures.save_gif(frames, out, seconds=0.08, hold=0.08)


def training_gif(run: Run, out: Path) -> Path:
    """Write the sample grids of the training as an animated GIF. Raises GanzooError if there are none."""
    _check_out(out, (".gif",))
    _refuse_read_only(out)
    found = [file for file in (run.path / "samples").glob("*.png") if file.stem.isdigit()]
    files = sorted(found, key=lambda file: int(file.stem))
    if not files:
        raise GanzooError(f"{run.path} has no sample grids to animate; train it, or lower --samples-every.")
    frames = []
    for file in files:
        try:
            with Image.open(file, formats=("PNG",)) as picture:  # Pillow starts programs to read some others, like EPS
                frames.append(picture.convert("RGB"))
        except Exception as error:  # Pillow's decoders raise various errors for a damaged file
            raise GanzooError(
                f"{file} is not a grid of this training ({type(error).__name__}): move it away."
            ) from None
    pictures.save_gif(frames, out, seconds=max(0.08, min(0.4, 10 / len(frames))))
    return out


def _check_out(out: Path, suffixes: tuple[str, ...]) -> None:
    """Raises UsageError for a file name of another kind, or one where no file can be written."""
    if out.suffix not in suffixes:
        raise UsageError(f"-o {out}: the file must end in {' or '.join(suffixes)} here.")
    if not is_directory(out.parent):
        raise UsageError(f"-o {out}: there is no directory {out.parent}.")
    if is_directory(out):
        raise UsageError(f"-o {out}: this is a directory; name a file.")


def _refuse_read_only(out: Path) -> None:
    """Raises UsageError where no file can be made beside `out`. A folder that does not exist has its own message."""
    if out.parent.is_dir() and not os.access(out.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{out.parent} cannot be written: name a file in another folder with -o.")
