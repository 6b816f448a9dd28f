"""Convert: the images of a dataset as files of another dataset."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ganzoo.api.keywords import Part, dataset_choice, folders
from ganzoo.api.progress import Waiting, log
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.storage.files import make_directory, sync_directory

if TYPE_CHECKING:
    from ganzoo.contract.components import Dataset


class Converted(NamedTuple):
    """What was written."""

    #: the dataset that reads the files
    dataset: Choice
    #: number of images of each split
    images: dict[str, int]
    #: bytes of all files
    size: int


def convert(dataset: Part, to: str, out: str | Path, *, data_dir: str | Path | None = None) -> Choice:
    """Write the images of a dataset, with labels, splits and class names, to the folder `out`, and return its dataset.

    `to` is "shards" (tar files of PNGs), "npy" (NumPy files of bytes), or another dataset that can be written. What is
    returned can be trained on: `ganzoo.train("dcgan", ganzoo.convert("mnist", "shards", "mnist-shards"))`.

    `out` is complete or absent. Its images are read again and compared, in sets of more than 256 MiB 1,000 of them.
    Raises UsageError if `out` holds something, or a dataset cannot be written; GanzooError if it does not succeed.
    """
    with folders(data_dir):
        return convert_dataset(dataset_choice(dataset), to, Path(out)).dataset


def convert_dataset(source: Choice, to: str, out: Path) -> Converted:
    """As `convert`, with more facts."""
    from ganzoo.registry.zoo import zoo

    out = Path(os.path.expanduser(out))
    target = Choice.parse(to)
    if target.options:
        raise UsageError(f"--to takes the name of a dataset alone, without options: {target.name}.")
    writer = zoo().load("datasets", target)
    _refuse_unwritable(writer, target)
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} holds something already: name a folder that is empty or not there.")
    splits = _splits(source)
    partial = out.absolute().with_name(f".{out.absolute().name}.{uuid.uuid4().hex[:8]}")
    try:
        make_directory(partial)
        options = _write(writer, partial, splits, f"Converting {source} to {target.name}")
        size = _sync(partial)
        os.replace(partial, out.absolute())  # an empty folder is replaced
        sync_directory(out.absolute().parent)
    except OSError as error:
        raise GanzooError(
            f"{out} cannot be written ({error.strerror or error}): name a folder on a disk with space that you may "
            "write to."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    written = Choice(target.name, {k: str(out / v) if isinstance(v, Path) else v for k, v in options.items()})
    _compare(splits, written, out)
    return Converted(written, {split: len(dataset) for split, dataset in splits.items()}, size)


def _refuse_unwritable(writer: type[Any], target: Choice) -> None:
    from ganzoo.contract.components import Dataset
    from ganzoo.registry.zoo import zoo

    if writer.write.__func__ is not Dataset.write.__func__:  # type: ignore[attr-defined]
        return
    able = []
    for component in zoo().components("datasets"):
        loaded = zoo().load("datasets", Choice(component.name))
        if loaded.write.__func__ is not Dataset.write.__func__:  # type: ignore[attr-defined]
            able.append(component.name)
    raise UsageError(f"{target.name} cannot be written; --to can be {' or '.join(able)}.")


def _splits(source: Choice) -> dict[str, Dataset]:
    """Both splits of a dataset, or the training images alone if it has no others."""
    from ganzoo.registry.zoo import zoo

    with Waiting(f"Reading {source}"):
        splits = {"train": zoo().build("datasets", source, split="train")}
        try:
            splits["test"] = zoo().build("datasets", source, split="test")
        except UsageError:
            raise
        except GanzooError as error:
            log(f"Only the training images are converted. {error}")
    return splits


def _write(writer: type[Any], folder: Path, splits: dict[str, Dataset], what: str) -> dict[str, Any]:
    total, written = sum(map(len, splits.values())), 0
    with Waiting(what) as waiting:

        def done(count: int) -> None:
            nonlocal written
            written += count
            waiting(written, total)

        options: dict[str, Any] = writer.write(folder, splits, done)
    return options


def _sync(folder: Path) -> int:
    """Wait until all files of a folder are on the disk; their bytes."""
    size = 0
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            size += path.stat().st_size
    sync_directory(folder)
    return size


def _compare(splits: dict[str, Dataset], written: Choice, out: Path) -> None:
    """Raise GanzooError unless the new dataset has the images, labels and class names of the old one."""
    from ganzoo.contract.components import class_names
    from ganzoo.engine.fingerprint import training_images_sha256
    from ganzoo.registry.zoo import zoo

    with Waiting(f"Comparing {out} with what it was made from"):
        for split, before in splits.items():
            after = zoo().build("datasets", written, split=split)
            facts = [
                (
                    len(each),
                    each.spec,
                    tuple(class_names(each)),
                    training_images_sha256(each.read, len(each), each.spec),
                )
                for each in (before, after)
            ]
            if facts[0] != facts[1]:
                raise GanzooError(
                    f"The {split} images in {out} are not those of the dataset they were made from: delete the folder, "
                    "and check the disk."
                )
