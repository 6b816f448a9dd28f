"""Checks of an extractor, on the digits that come with the project: pinned weights know them."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Dataset, Extractor
from ganzoo.contract.errors import GanzooError
from ganzoo.registry.zoo import zoo
from ganzoo.testing.kit import ExaminedPart, Skipped, require, sentence
from ganzoo.testing.process import random_state

DATASET = "digits"


def digits(split: str = "train") -> Dataset:
    """The images that extractors are bound to."""
    found: Dataset = zoo().build("datasets", Choice(DATASET), split=split)
    return found


def _bound(part: ExaminedPart) -> Extractor:
    """The extractor, ready. Raises Skipped, with its own words, where its weights are not here."""
    extractor: Extractor = part.on_disk()
    try:
        extractor.bind(DATASET, digits())
    except GanzooError as error:
        raise Skipped(str(error)) from error
    return extractor


def _images(count: int = 8) -> Tensor:
    """uint8 digits (count, 1, H, W), with a black and a white image."""
    images, _ = digits().read(torch.arange(count))
    images[0], images[1] = 0, 255
    return images


def features_are_of_their_layers(part: ExaminedPart) -> None:
    """`forward` gives the layers it names: finite float32, D numbers an image, (N, D) or of the shape of images."""
    extractor, images = _bound(part), _images()
    features = extractor(images)
    require(
        set(features) == set(extractor.layers), f"It gives {sorted(features)} and names {sorted(extractor.layers)}."
    )
    for layer, values in features.items():
        numbers = extractor.layers[layer]
        require(values.dtype == torch.float32, f"{layer} is {values.dtype}, not float32.")
        fits = len(values) == len(images) and values[0].numel() == numbers and values.ndim in (2, 4)
        require(fits, f"{layer} has shape {tuple(values.shape)} for {len(images)} images and says {numbers} numbers.")
        require(values.isfinite().all(), f"{layer} is not finite.")


def digest_names_the_features(part: ExaminedPart) -> None:
    """Once bound, two objects have one digest, a text that is not empty, and give the same features."""
    first, second = _bound(part), _bound(part)
    require(isinstance(first.digest, str) and first.digest, f"Its digest is {first.digest!r}.")
    require(first.digest == second.digest, "Two objects have different digests.")
    mine, others = first(_images()), second(_images())
    require(all(torch.equal(mine[layer], others[layer]) for layer in mine), "Two objects give different features.")


def images_are_seen_one_by_one(part: ExaminedPart) -> None:
    """The features of an image do not depend on the batch it is in."""
    extractor, images = _bound(part), _images()
    among_all, alone = extractor(images), extractor(images[2:3])
    for layer, values in among_all.items():
        alike = torch.allclose(values[2:3], alone[layer], rtol=1e-3, atol=1e-4)
        require(alike, f"{layer} of an image alone is not what it is in a batch.")


def stays_in_evaluation_mode(part: ExaminedPart) -> None:
    """`train()` changes nothing: no dropout, and no moving statistics that score after score would shift."""
    extractor, images = _bound(part), _images()
    before = extractor(images)
    extractor.train()
    during = extractor(images)
    after = extractor(images)
    for layer in before:
        alike = torch.equal(before[layer], during[layer]) and torch.equal(before[layer], after[layer])
        require(alike, f"After train() {layer} is another one; override train() to stay in evaluation mode.")


def images_must_be_uint8(part: ExaminedPart) -> None:
    """Images that are not uint8 are refused with a GanzooError that says so: floats may have any range."""
    extractor, images = _bound(part), _images()
    try:
        extractor(images.float() / 255)
    except GanzooError as error:
        sentence(error)
        return
    require(False, "It takes float images without a word.")


def images_are_left_alone(part: ExaminedPart) -> None:
    """The images it is given are not changed in place."""
    extractor, images = _bound(part), _images()
    given = images.clone()
    extractor(given)
    require(torch.equal(given, images), "It changes the images it is given in place.")


def random_state_is_left_alone(part: ExaminedPart) -> None:
    """Making, binding and using it draw from no global generator: scoring during a training must not be seen there."""
    _bound(part)  # what is trained once and kept is not the point
    before = random_state()
    _bound(part)(_images())
    require(random_state() == before, "It draws from a global generator.")


def computes_in_its_own_way(part: ExaminedPart) -> None:
    """Features are the same under autocast, and carry no gradient: the caller's settings do not reach them."""
    extractor, images = _bound(part), _images()
    plain = extractor(images)
    with torch.autocast("cpu", torch.bfloat16):
        cast = extractor(images)
    for layer, values in plain.items():
        require(not values.requires_grad, f"{layer} carries a gradient; compute under torch.no_grad().")
        alike = values.dtype == cast[layer].dtype and torch.equal(values, cast[layer])
        require(alike, f"Under autocast {layer} is another one; switch autocast off inside.")


CHECKS = (
    features_are_of_their_layers,
    digest_names_the_features,
    images_are_seen_one_by_one,
    stays_in_evaluation_mode,
    images_must_be_uint8,
    images_are_left_alone,
    random_state_is_left_alone,
    computes_in_its_own_way,
)
