"""The test accuracy of extractors that predict classes.

Scores in the features of a classifier mean little if the classifier learnt nothing, for example from labels that do not
belong to the images. So its accuracy on the test images is measured once, cached, and written in the card of every
score that uses it. It is not part of what a card's digest is over: cards without it compare as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ganzoo.contract.errors import UsageError
from ganzoo.evaluation.features import ExtractorGroup, Reals, versions
from ganzoo.registry.source import PLUGIN_ERRORS, error_text
from ganzoo.storage.cache import Cache

_CACHE = Cache("accuracy")
_BATCH = 500
#: of a larger test split so many images are classified, evenly spaced
_MOST = 10_000

Accuracy = dict[str, Any]


def accuracy_of(
    group: ExtractorGroup, dataset: str, test: Callable[[], Reals], note: Callable[[str], None]
) -> Accuracy | None:
    """How well an extractor classifies the test images; None for an extractor that does not predict classes.

    The result has `test_accuracy` and `largest_class`, two shares of the `test_images` that were classified: those that
    are classified correctly, and those of the most frequent class. Both are None where there are no test images.
    `note` receives a sentence if the accuracy is below the floor, or not known. `dataset` is the name for messages.
    """
    layer = group.extractor.predicts
    if not layer:
        return None
    if layer not in group.extractor.layers:
        raise UsageError(
            f"Extractor {group.choice} predicts classes by its layer {layer!r} and has no such layer; it has "
            f"{', '.join(group.extractor.layers)}."
        )
    try:
        accuracy = _cached(group, layer, test())
    except PLUGIN_ERRORS as error:  # a score must not fail because of test images that it does not need
        note(f"How well extractor {group.choice} classifies the images of {dataset} is not known: {error_text(error)}")
        return {"test_accuracy": None, "largest_class": None, "test_images": 0}
    if problem := problem_of(accuracy):
        used = ", ".join(name for running in group.evaluators for name in running.evaluator.scores)
        note(
            f"Extractor {group.choice} {problem}: scores that use it mean little ({used}); "
            f"check the labels of {dataset}."
        )
    return accuracy


def floor(largest_class: float, images: int) -> float:
    """The smallest accuracy that shows that a classifier has learnt something.

    It lies above `largest_class`, the accuracy of the best constant answer, by a tenth of the rest to 1 or by three
    standard deviations of guesses on so many images, whichever is more, but at most by half of the rest.
    """
    rest, deviation = 1 - largest_class, math.sqrt(largest_class * (1 - largest_class) / images)
    return largest_class + min(max(0.1 * rest, 3 * deviation), 0.5 * rest)


def problem_of(accuracy: Accuracy) -> str:
    """What is wrong with a measured accuracy, as the end of a sentence about the extractor; empty if nothing is."""
    share, largest, images = (accuracy[name] for name in ("test_accuracy", "largest_class", "test_images"))
    if largest == 1:
        return f"cannot be checked, because the {images:,} test images are all of one class"
    if share >= floor(largest, images):
        return ""
    return (
        f"classifies {share:.1%} of the {images:,} test images correctly, which is not clearly more than the "
        f"{largest:.1%} that are of the largest class"
    )


def _cached(group: ExtractorGroup, layer: str, test: Reals) -> Accuracy:
    """The accuracy from the cache, or measured and cached."""
    key = {"extractor": group.facts(layer), "test": test.facts, "most": _MOST, "versions": versions()}
    found = _CACHE.load_scores(key)
    if found is None:
        found = {layer: _measure(group, layer, test)}
        _CACHE.save_scores(key, found)
    return found[layer]


def _measure(group: ExtractorGroup, layer: str, test: Reals) -> Accuracy:
    count, correct, labels = len(test.dataset), 0, []
    positions = torch.arange(count) if count <= _MOST else torch.arange(_MOST) * count // _MOST
    for indices in torch.split(positions, _BATCH):
        images, of_images = test.dataset.read(indices)
        predicted = group.extractor(images.to(group.device))[layer].argmax(1)
        correct += int((predicted.cpu() == of_images).sum())
        labels.append(of_images)
    largest = int(torch.bincount(torch.cat(labels)).max())
    images_classified = len(positions)
    return {
        "test_accuracy": round(correct / images_classified, 6),
        "largest_class": round(largest / images_classified, 6),
        "test_images": images_classified,
    }
