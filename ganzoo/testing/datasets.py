"""Checks of a dataset."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ganzoo.contract.components import Dataset
from ganzoo.contract.errors import GanzooError
from ganzoo.testing.kit import ExaminedPart, require, sentence
from ganzoo.testing.process import random_state

#: number of images of a split that are read by most checks
_SOME = 64
#: number of images of a split that are compared with those of the other split
_MANY = 20_000


def _some(dataset: Dataset, count: int = _SOME) -> Tensor:
    """Up to `count` indices (n,), spread over the whole dataset."""
    return torch.linspace(0, len(dataset) - 1, min(count, len(dataset)), dtype=torch.float64).round().long()


def _equal(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def images_are_of_their_spec(part: ExaminedPart) -> None:
    """`read` returns uint8 images (n, C, H, W) on the CPU, of the shape that `spec` declares."""
    dataset = part.on_disk()
    for count in (1, _SOME):
        indices = _some(dataset, count)
        images, _ = dataset.read(indices)
        spec = dataset.spec
        expected = (len(indices), spec.channels, spec.height, spec.width)
        require(images.dtype == torch.uint8, f"Images are {images.dtype}, not uint8.")
        require(images.shape == expected, f"Images have shape {tuple(images.shape)}; spec declares {expected}.")
        require(images.device.type == "cpu", f"Images are on {images.device}, not on the CPU.")


def labels_are_of_their_classes(part: ExaminedPart) -> None:
    """Labels are int64 (n,), from 0 to `spec.classes` - 1, and either every class has a name or none has."""
    dataset = part.on_disk()
    indices, classes = _some(dataset), dataset.spec.classes
    _, labels = dataset.read(indices)
    require(labels.dtype == torch.int64, f"Labels are {labels.dtype}, not int64.")
    require(labels.shape == indices.shape, f"{len(indices)} images have labels of shape {tuple(labels.shape)}.")
    inside = int(labels.min()) >= 0 and int(labels.max()) < classes
    require(inside, f"Labels go from {labels.min()} to {labels.max()}; spec has {classes} classes.")
    named = len(dataset.class_names)
    require(named in (0, classes), f"There are {named} names for {classes} classes.")


def splits_are_alike(part: ExaminedPart) -> None:
    """Both splits, train and test, contain images, with the same spec and the same class names."""
    train, test = part.on_disk(split="train"), part.on_disk(split="test")
    require(len(train) and len(test), f"The splits contain {len(train)} and {len(test)} images.")
    require(train.spec == test.spec, f"The training images are {train.spec}, the test images {test.spec}.")
    require(tuple(train.class_names) == tuple(test.class_names), "The splits have different class names.")


def splits_share_no_image(part: ExaminedPart) -> None:
    """At most 1 % of the different images are both in the training split and in the test split."""
    hashes = []
    for split in ("train", "test"):
        dataset = part.on_disk(split=split)
        found = set()
        for indices in torch.split(_some(dataset, _MANY), 1000):
            images = dataset.read(indices)[0].contiguous().numpy()
            found |= {hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images}
        hashes.append(found)
    shared, fewest = len(hashes[0] & hashes[1]), min(map(len, hashes))
    require(shared <= fewest / 100, f"{shared} of {fewest} different images are in both splits.")


def reads_the_same_every_time(part: ExaminedPart) -> None:
    """The same indices give the same images and labels, from the same object and from a new one."""
    first, second = part.on_disk(), part.on_disk()
    indices = _some(first)
    images = first.read(indices)
    require(_equal(images, first.read(indices)), "The second read returns something else.")
    require(len(first) == len(second), f"The first object has {len(first)} images, the second one {len(second)}.")
    require(_equal(images, second.read(indices)), "A second object returns something else.")


def reads_in_any_order(part: ExaminedPart) -> None:
    """An image does not depend on the other images of a read, on their order, or on how often it is read."""
    dataset = part.on_disk()
    indices = _some(dataset, 16)
    images, labels = dataset.read(indices)
    backwards = dataset.read(indices.flip(0))
    require(_equal((images.flip(0), labels.flip(0)), backwards), "Read in another order, the images are different.")
    twice = dataset.read(indices[[0, 0, -1]])
    require(_equal((images[[0, 0, -1]], labels[[0, 0, -1]]), twice), "Read twice in one call, an image is different.")


def reads_copies(part: ExaminedPart) -> None:
    """`read` returns copies: changing them does not change the dataset. It does not change its indices either."""
    dataset = part.on_disk()
    indices = _some(dataset, 4)
    given = indices.clone()
    images, labels = dataset.read(indices)
    kept = images.clone(), labels.clone()
    images.zero_()
    labels.zero_()
    require(torch.equal(indices, given), "`read` changes its indices in place.")
    require(_equal(kept, dataset.read(given)), "Changing images that were read changes the dataset.")


def reads_in_any_thread(part: ExaminedPart) -> None:
    """Another thread reads the same images: large datasets are read ahead in a thread."""
    dataset = part.on_disk()
    indices = _some(dataset, 16)
    with ThreadPoolExecutor(1) as pool:
        in_thread = pool.submit(dataset.read, indices).result()
    require(_equal(dataset.read(indices), in_thread), "Another thread reads different images.")


def random_state_is_left_alone(part: ExaminedPart) -> None:
    """Building it and reading from it draw nothing from a global random generator."""
    part.on_disk()  # the first time, it may prepare files, and draw random numbers
    before = random_state()
    dataset = part.on_disk()
    dataset.read(_some(dataset))
    require(random_state() == before, "It draws from a global random generator; use a torch.Generator of its own.")


def verify_says_what_it_checked(part: ExaminedPart) -> None:
    """`verify` finds no fault, and returns a few words on what it checked."""
    text = part.on_disk().verify()
    require(isinstance(text, str) and text.strip(), f"verify returns {text!r}, not words on what was checked.")


def missing_data_is_explained(part: ExaminedPart) -> str:
    """Without files and without a network it works, or raises a GanzooError that says what to do."""
    with tempfile.TemporaryDirectory() as empty:
        os.environ.update(GANZOO_DATA=empty, GANZOO_CACHE=empty)
        for name in ("GANZOO_OFFLINE", "GANZOO_MIRROR"):
            os.environ.pop(name, None)
        sleep, time.sleep = time.sleep, lambda seconds: None  # so that retries of a download do not wait
        try:
            part.build()
        except GanzooError as error:
            return f"it says: {sentence(error)}"
        finally:
            time.sleep = sleep
    return "it needs no files"


CHECKS = (
    images_are_of_their_spec,
    labels_are_of_their_classes,
    splits_are_alike,
    splits_share_no_image,
    reads_the_same_every_time,
    reads_in_any_order,
    reads_copies,
    reads_in_any_thread,
    random_state_is_left_alone,
    verify_says_what_it_checked,
    missing_data_is_explained,
)
