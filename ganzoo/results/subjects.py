"""What can be scored besides a run: images in a file, in a folder of pictures, or in memory.

`open_subject` is the one place that tells them apart. A new kind is a function that returns a `Subject`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Dataset, class_names
from ganzoo.contract.errors import GanzooError, UsageError, counted
from ganzoo.contract.images import ImageSpec, resize
from ganzoo.contract.paths import absolute_path, cache_dir, is_directory, is_file
from ganzoo.contract.protocol import Protocol
from ganzoo.engine import seeds
from ganzoo.engine.sampler import DRAW_BATCH
from ganzoo.registry.zoo import Zoo
from ganzoo.results.image_arrays import SUFFIXES, ImageArray, open_images
from ganzoo.results.load import is_generator_alone
from ganzoo.storage.files import make_directory, write_atomically
from ganzoo.storage.missing_run import similar_runs

#: the parts that read folders and arrays as datasets
_FOLDER, _ARRAY = "image-folder", "npy"
#: what a run directory has, also a damaged one
_OF_A_RUN = ("recipe.json", "environment.json", "generators", "checkpoints", "stats.jsonl")
Batches = Iterator[tuple[Tensor, Tensor]]


@dataclasses.dataclass(frozen=True)
class Subject:
    """Images to be scored that are not drawn by a run."""

    #: for messages: the file or folder
    name: str
    #: "array" or "folder"; a generator that is no run has a word of its own
    kind: str
    #: shape of the images, without classes
    spec: ImageSpec
    #: whether the label of an image is the class of the dataset that it was made for
    labelled: bool
    #: how many images there are; None: as many as are asked for
    available: int | None
    #: (count, seed) -> batches of uint8 images (n, C, H, W) and labels (n,), `count` images in all. The batches have
    #: `DRAW_BATCH` images, as those of a run
    batches: Callable[[int, int], Batches]
    #: what the card says of them, besides the digest of the pixels
    facts: Mapping[str, Any]


def is_run(path: Path) -> bool:
    """Whether a path is scored as a run: a directory with a recipe or other files of a run, or a generator alone."""
    return is_generator_alone(path) or (is_directory(path) and any((path / name).exists() for name in _OF_A_RUN))


def source_of(path: Path | ImageArray) -> Path | ImageArray:
    """An array for a `.npy` or `.npz` file; a directory as it is. Raises UsageError for another path."""
    if isinstance(path, ImageArray) or is_directory(path) or is_run(path):
        return path
    if path.suffix in SUFFIXES:
        return open_images(path)
    what = "it is a file of another kind" if is_file(path) else "it does not exist"
    similar = "" if is_file(path) else similar_runs(path)
    raise UsageError(
        f"{path} holds no run and no images ({what}): name the directory that `ganzoo train` printed, a .npy or .npz "
        f"file of images, or a folder of pictures.{similar}"
    )


def open_subject(source: Path | ImageArray, zoo: Zoo, reals: Dataset, resized: bool) -> Subject:
    """The images of an array or of a folder of pictures, to be compared with `reals`.

    Pictures are decoded as `image-folder` does, with as many channels as the reals; `resized` allows pictures of
    several sizes.

    Raises UsageError for a folder without pictures, and GanzooError for pictures that cannot be read.
    """
    return _array(source, reals) if isinstance(source, ImageArray) else _folder(source, zoo, reals, resized)


# --- kinds of subjects ------------------------------------------------------------------------------------------------


def _array(images: ImageArray, reals: Dataset) -> Subject:
    labelled = images.labels is not None and 1 < images.spec.classes <= reals.spec.classes
    spec = dataclasses.replace(images.spec, classes=1)
    facts = {"kind": "array", "file": Path(images.name).name, "layout": images.layout}
    return Subject(images.name, "array", spec, labelled, len(images), _reader(images.read, len(images)), facts)


def _pictures(path: Path, zoo: Zoo, **options: Any) -> Dataset:
    """All pictures of a folder, decoded as `image-folder` does with these options."""
    choice = Choice(_FOLDER, {"path": str(absolute_path(path)), "test_share": 0, **options})
    images: Dataset = zoo.build("datasets", choice, split="train")
    return images


def _folder(path: Path, zoo: Zoo, reals: Dataset, resized: bool) -> Subject:
    spec, decoded = reals.spec, "as they are"
    try:
        images = _pictures(path, zoo, channels=spec.channels, size=0)
    except GanzooError as error:
        if "has no pictures" in str(error):
            raise UsageError(f"{path} holds no run (there is no recipe.json), and no pictures to score.") from None
        if "size=0" not in str(error):
            raise
        if not resized or spec.height != spec.width:
            needs = "" if spec.height == spec.width else ", which needs reals that are square"
            raise GanzooError(
                f"{path} has pictures of several sizes, and the reals are of {spec}: add --resize to bring all of them "
                f"to this size{needs}."
            ) from None
        images = _pictures(path, zoo, channels=spec.channels, size=spec.height)
        decoded = f"central squares, bilinear with antialiasing, at {spec.height}x{spec.width}"
    labels = _labels_by_name(images, reals)

    def read(indices: Tensor) -> tuple[Tensor, Tensor]:
        found, own = images.read(indices)
        return found, own if labels is None else labels[own]

    facts = {"kind": "folder", "file": path.name, "decoded": f"by {_FOLDER}, {spec.channels} channels, {decoded}"}
    own_spec = dataclasses.replace(images.spec, classes=1)
    return Subject(str(path), "folder", own_spec, labels is not None, len(images), _reader(read, len(images)), facts)


def _labels_by_name(images: Dataset, reals: Dataset) -> Tensor | None:
    """The label that each class of `images` has among the reals; None if one of them is not a class of the reals."""
    names = [str(name) for name in class_names(reals)]
    own = [str(name) for name in images.class_names]
    if not own or reals.spec.classes < 2 or not set(own) <= set(names):
        return None
    return torch.tensor([names.index(name) for name in own])


def _reader(read: Callable[[Tensor], tuple[Tensor, Tensor]], available: int) -> Callable[[int, int], Batches]:
    def batches(count: int, seed: int) -> Batches:
        positions = torch.arange(available)
        if count < available:  # at random: files may be sorted by class, or have the classes in turn
            drawn = torch.randperm(available, generator=seeds.generator("cpu", "evaluate", "which images"))
            positions = drawn[:count].sort().values
        return (read(some) for some in torch.split(positions, DRAW_BATCH))

    return batches


# --- the reals --------------------------------------------------------------------------------------------------------


def reals_choice(against: Choice | Path, own_spec: Callable[[int], ImageSpec | None]) -> Choice:
    """The dataset that images are compared with: one of the zoo, a folder of pictures, or a file of an array.

    A folder of pictures without the option `size` is read in the size of the images that are scored, and in their
    channels where the option `channels` is not given either. `own_spec` is called with these channels, or 0, and
    returns the shape of the images that are scored; None where they have no common one.
    """
    choice = _against(against)
    if choice.name.rpartition("/")[2] != _FOLDER or "size" in choice.options:
        return choice
    spec = own_spec(int(choice.options.get("channels", 0)))
    if spec is None or spec.height != spec.width:
        return choice
    return Choice(choice.name, {"channels": spec.channels, **choice.options, "size": spec.height})


def shape_of(source: Path | ImageArray, zoo: Zoo, channels: int) -> ImageSpec | None:
    """The shape of images; None for pictures of several sizes. Pictures are in colour where `channels` is 0."""
    if isinstance(source, ImageArray):
        return source.spec
    try:
        return _pictures(source, zoo, channels=channels or 3, size=0).spec
    except GanzooError:  # what is wrong with them is said when they are opened to be scored
        return None


def _against(against: Choice | Path) -> Choice:
    """A dataset as it is, or that of a folder or of a file of an array. Raises UsageError for a run."""
    if isinstance(against, Choice):
        choice = against
    elif against.suffix in SUFFIXES:
        return _array_choice(against.expanduser())
    else:
        choice = Choice(_FOLDER, {"path": str(absolute_path(against.expanduser()))})
    folder = choice.options.get("path") if choice.name.rpartition("/")[2] == _FOLDER else None
    if folder and is_run(absolute_path(folder)):
        raise UsageError(f"--against {folder}: this is a run: name the dataset it learned from.")
    return choice


def _array_choice(path: Path) -> Choice:
    """A file of an array as a dataset. The arrays of an archive are written into the cache, one file each."""
    images = open_images(path)
    if path.suffix == ".npz":
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        files = {"path": (f"{digest}.npy", images.stored)}
        if images.labels is not None:
            files["labels"] = (f"{digest}.labels.npy", images.labels.numpy())
        options: dict[str, Any] = {}
        make_directory(cache_dir() / "arrays")
        for option, (name, array) in files.items():
            data = io.BytesIO()
            np.save(data, np.ascontiguousarray(array), allow_pickle=False)
            options[option] = str(cache_dir() / "arrays" / name)
            write_atomically(Path(options[option]), data.getvalue())
    else:
        options = {"path": str(absolute_path(path))}
    return Choice(_ARRAY, {**options, **({"layout": "NCHW"} if images.layout == "NCHW" else {})})


# --- shapes and numbers -----------------------------------------------------------------------------------------------


def fitted(batches: Batches, spec: ImageSpec, facts: dict[str, Any] | None = None) -> Batches:
    """The batches at the size of `spec`. After the last one, `facts` has the sha256 of all pixels before the resize.

    The digest is over the bytes of the images (N, C, H, W) in the order in which they are scored.
    """
    sha = hashlib.sha256()
    for images, labels in batches:
        if facts is not None:
            sha.update(images.contiguous().numpy().tobytes())
        yield resize(images, (spec.height, spec.width)), labels
    if facts is not None:
        facts["sha256"] = sha.hexdigest()


def resize_words(name: str, images: ImageSpec, reals: ImageSpec, dataset: str, resized: bool) -> str:
    """How images are brought to the shape of the reals, for the card; empty where they have it.

    Raises UsageError for another number of channels, and for another size unless `resized`.
    """
    if images.channels != reals.channels:
        kinds = {1: "grey", 3: "colour"}
        advice = "save them in grey" if images.channels == 3 else "repeat their channel three times"
        raise UsageError(
            f"{name} has {kinds[images.channels]} images of {images}, and {dataset} has {kinds[reals.channels]} ones "
            f"of {reals}: {advice}, or compare with another dataset."
        )
    if str(images) == str(reals):
        return ""
    if not resized:
        raise UsageError(
            f"{name} has images of {images}, and {dataset} of {reals}: add --resize to score them at that size, or "
            "compare with a dataset of their own size."
        )
    return f"bilinear with antialiasing, rounded, from {images} to {reals}"


def count_of(subject: Subject, samples: int | None, protocol: Protocol, note: Callable[[str], None]) -> int:
    """How many images are scored: `samples`, or as many as the protocol says, or all if there are fewer of them.

    Raises UsageError if there are fewer than `samples`, or fewer than 2.
    """
    available, wanted = subject.available, samples or protocol.samples
    if available is not None and available < 2:
        raise UsageError(
            f"{subject.name} holds {counted(available, 'image')}: a score needs at least 2, and means little below "
            "1000."
        )
    if available is None or available == wanted:
        return wanted
    if available > wanted:
        note(f"{wanted:,} of the {available:,} images of {subject.name} are scored, chosen at random.")
        return wanted
    if samples is not None:
        raise UsageError(f"--samples {samples}: {subject.name} holds only {counted(available, 'image')}.")
    note(
        f"{subject.name} holds {counted(available, 'image')}, not the {wanted:,} of protocol {protocol.name}: compare "
        f"its scores only with others of --samples {available}."
    )
    return available
