"""Files of drawings: pictures, arrays, and folders of single pictures."""

from __future__ import annotations

import csv
import io
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.contract.errors import UsageError
from ganzoo.contract.paths import is_directory
from ganzoo.results.classes import file_word, labels_file
from ganzoo.results.drawing import Drawing
from ganzoo.storage import pictures
from ganzoo.storage.files import sync_directory, write_atomically

#: the table of the single pictures in a folder
TABLE = "images.csv"


def check_out(out: Path, suffixes: tuple[str, ...]) -> None:
    """Raises UsageError for a file name of another kind, or one where no file can be written."""
    if out.suffix not in suffixes:
        several = " or ".join([", ".join(suffixes[:-1]), suffixes[-1]] if len(suffixes) > 1 else suffixes)
        folder = "; a folder of single pictures is written DIR/" if not out.suffix else ""
        raise UsageError(f"-o {out}: the file must end in {several} here{folder}.")
    if not is_directory(out.parent):
        raise UsageError(f"-o {out}: there is no directory {out.parent}.")
    if is_directory(out):
        raise UsageError(f"-o {out}: this is a directory; name a file.")


def refuse_read_only(out: Path) -> None:
    """Raises UsageError where no file can be made beside `out`. A folder that does not exist has its own message."""
    if out.parent.is_dir() and not os.access(out.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{out.parent} cannot be written: name a file in another folder with -o.")


def check_directory(directory: Path) -> None:
    """Raises UsageError where no folder of single pictures can be made: it holds files, or its parent is not there."""
    if is_directory(directory):
        if any(directory.iterdir()):
            raise UsageError(f"-o {directory}/: the folder holds other files; name a new or an empty one.")
    elif directory.exists():
        raise UsageError(f"-o {directory}/: this is a file; name a new or an empty folder.")
    if not is_directory(directory.absolute().parent):
        raise UsageError(f"-o {directory}/: there is no directory {directory.absolute().parent}.")
    refuse_read_only(directory.absolute())


def write(drawing: Drawing, out: Path) -> None:
    """Write a drawing as .png, .npy or .npz: complete or not at all.

    .npy is the uint8 array (N, C, H, W); the classes of a conditional generator are written beside it, see
    `labels_file`. .npz holds the arrays `images`, `latents`, and of a conditional generator `labels` and `class_names`;
    where standing statistics were asked for, `standing_statistics` is their number of batches, and of images of each.
    """
    if out.suffix == ".npy":
        data = io.BytesIO()
        np.save(data, drawing.images.numpy(), allow_pickle=False)
        write_atomically(out, data.getvalue())
        if drawing.class_names:
            _write_table(labels_file(out), ["image"], [[index] for index in range(len(drawing.images))], drawing)
    elif out.suffix == ".npz":
        write_atomically(out, _npz(drawing))
    else:
        pictures.save_png(drawing.picture(), out)


def _npz(drawing: Drawing) -> bytes:
    arrays: dict[str, Any] = {"images": drawing.images.numpy(), "latents": drawing.latents.numpy()}
    if drawing.class_names:
        arrays |= {"labels": drawing.labels.numpy(), "class_names": np.array(drawing.class_names)}
    if drawing.standing is not None:
        arrays["standing_statistics"] = np.array(drawing.standing)
    if drawing.neighbours is not None:
        arrays["neighbours"] = drawing.neighbours.positions.numpy()
        arrays["neighbour_images"] = drawing.neighbours.images.numpy()
        arrays["neighbour_distances"] = drawing.neighbours.distances.numpy()
    data = io.BytesIO()
    # none of the arrays holds objects; numpy before 2.1 would store `allow_pickle` as one more array
    np.savez_compressed(data, **arrays)
    return data.getvalue()


def write_directory(drawing: Drawing, directory: Path) -> None:
    """Write each image as a PNG at its own size, with its class in its name, and the table `images.csv`.

    The folder is complete or absent: it is made under another name and renamed.
    """
    directory = directory.absolute()
    temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex[:12]}")
    digits = max(5, len(str(len(drawing.images) - 1)))
    names = []
    try:
        temporary.mkdir()
        for index, (image, label) in enumerate(zip(drawing.images, drawing.labels.tolist(), strict=True)):
            word = f"-{file_word(drawing.class_names[label], label)}" if drawing.class_names else ""
            names.append(f"{index:0{digits}d}{word}.png")
            (temporary / names[-1]).write_bytes(pictures.png(pictures.single(image)))
        rows = [[name, index] for index, name in enumerate(names)]
        _write_table(temporary / TABLE, ["file", "image"], rows, drawing)
        if directory.is_dir():
            directory.rmdir()  # it is empty
        os.replace(temporary, directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(directory.parent)


def _write_table(out: Path, columns: Sequence[str], rows: Sequence[Sequence[object]], drawing: Drawing) -> None:
    """Write a CSV file with a row for each image, and the label and the class of each where there are classes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = drawing.class_names
    writer.writerow([*columns, "label", "class"] if names else columns)
    labels = drawing.labels.tolist()
    writer.writerows((*row, label, names[label]) if names else row for row, label in zip(rows, labels, strict=True))
    write_atomically(out, text.getvalue().encode(errors="surrogateescape"))
