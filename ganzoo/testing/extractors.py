"""Checks of an extractor, on the digits that come with the project, for which there are trained weights."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Dataset, Extractor
from ganzoo.contract.errors import GanzooError
from ganzoo.registry.zoo import zoo
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped, require, sentence
from ganzoo.testing.process import random_state

DATASET = "digits"


def digits(split: str = "train") -> Dataset:
    """The images that the extractors are bound to in the checks."""
    dataset: Dataset = zoo().build("datasets", Choice(DATASET), split=split)
    return dataset


def _bound(part: ExaminedPart) -> Extractor:
    """The extractor, bound to the digits. Raises Skipped, with its own message, where its weights are missing."""
    extractor: Extractor = part.on_disk()
    try:
        extractor.bind(DATASET, digits())
    except GanzooError as error:
        raise Skipped(str(error)) from error
    return extractor


def _images(count: int = 8) -> Tensor:
    """(count, 1, H, W) uint8 digits; the first image is all black, the second all white."""
    images, _ = digits().read(torch.arange(count))
    images[0], images[1] = 0, 255
    return images


def features_are_of_their_layers(part: ExaminedPart) -> None:
    """`forward` returns the layers it declares: finite float32 features, D numbers an image, (N, D) or (N, C, H, W)."""
    extractor, images = _bound(part), _images()
    features = extractor(images)
    require(
        set(features) == set(extractor.layers),
        f"It returns {sorted(features)} and declares {sorted(extractor.layers)}.",
    )
    for layer, values in features.items():
        numbers = extractor.layers[layer]
        require(values.dtype == torch.float32, f"{layer} is {values.dtype}, not float32.")
        fits = len(values) == len(images) and values[0].numel() == numbers and values.ndim in (2, 4)
        shape = tuple(values.shape)
        require(fits, f"{layer} has shape {shape} for {len(images)} images, and declares {numbers} numbers an image.")
        require(values.isfinite().all(), f"{layer} is not finite.")


def predictions_have_a_layer(part: ExaminedPart) -> None:
    """If `predicts` names a layer, `layers` has it, with one number for each class of the dataset it is bound to."""
    extractor, classes = _bound(part), digits().spec.classes
    if not extractor.predicts:
        return
    require(extractor.predicts in extractor.layers, f"It predicts by {extractor.predicts!r}, which is no layer of it.")
    numbers = extractor.layers[extractor.predicts]
    require(numbers == classes, f"{extractor.predicts} has {numbers} numbers for the {classes} classes of the dataset.")


def digest_identifies_the_features(part: ExaminedPart) -> None:
    """Two objects bound to the same images have the same digest, a non-empty string, and compute the same features."""
    first, second = _bound(part), _bound(part)
    require(isinstance(first.digest, str) and first.digest, f"Its digest is {first.digest!r}.")
    require(first.digest == second.digest, "Two objects have different digests.")
    ours, theirs = first(_images()), second(_images())
    require(all(torch.equal(ours[layer], theirs[layer]) for layer in ours), "Two objects compute different features.")


def features_do_not_depend_on_the_batch(part: ExaminedPart) -> None:
    """The features of an image do not depend on the rest of its batch."""
    extractor, images = _bound(part), _images()
    in_batch, alone = extractor(images), extractor(images[2:3])
    for layer, values in in_batch.items():
        alike = torch.allclose(values[2:3], alone[layer], rtol=1e-3, atol=1e-4)
        require(alike, f"{layer} of an image differs between a batch of one and a larger batch.")


def stays_in_evaluation_mode(part: ExaminedPart) -> None:
    """`train()` changes nothing: no dropout is switched on, and no moving statistics are updated."""
    extractor, images = _bound(part), _images()
    before = extractor(images)
    extractor.train()
    during = extractor(images)
    after = extractor(images)
    for layer in before:
        alike = torch.equal(before[layer], during[layer]) and torch.equal(before[layer], after[layer])
        require(alike, f"After train() {layer} is different; override train() to stay in evaluation mode.")


def images_must_be_uint8(part: ExaminedPart) -> None:
    """Images that are not uint8 are refused with a GanzooError: the range of floats is unknown."""
    extractor, images = _bound(part), _images()
    try:
        extractor(images.float() / 255)
    except GanzooError as error:
        sentence(error)
        return
    raise Failed("It accepts float images without an error.")


def images_are_left_alone(part: ExaminedPart) -> None:
    """It does not change its images in place."""
    extractor, images = _bound(part), _images()
    given = images.clone()
    extractor(given)
    require(torch.equal(given, images), "It changes its images in place.")


def random_state_is_left_alone(part: ExaminedPart) -> None:
    """Building, binding and using it draw nothing from a global random generator: scores must not change a run."""
    _bound(part)  # the first time, it may train a network and store it
    before = random_state()
    _bound(part)(_images())
    require(random_state() == before, "It draws from a global random generator.")


def features_do_not_depend_on_autocast(part: ExaminedPart) -> None:
    """Features are the same under the caller's autocast, and carry no gradient."""
    extractor, images = _bound(part), _images()
    plain = extractor(images)
    with torch.autocast("cpu", torch.bfloat16):
        cast = extractor(images)
    for layer, values in plain.items():
        require(not values.requires_grad, f"{layer} carries a gradient; compute under torch.no_grad().")
        alike = values.dtype == cast[layer].dtype and torch.equal(values, cast[layer])
        require(alike, f"Under autocast {layer} is different; switch autocast off inside.")


CHECKS = (
    features_are_of_their_layers,
    predictions_have_a_layer,
    digest_identifies_the_features,
    features_do_not_depend_on_the_batch,
    stays_in_evaluation_mode,
    images_must_be_uint8,
    images_are_left_alone,
    random_state_is_left_alone,
    features_do_not_depend_on_autocast,
)
