"""Features for the checks of an evaluator: of real digits if its extractor is available, else synthetic clusters."""

from __future__ import annotations

import contextlib
import functools

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Extractor
from ganzoo.contract.errors import GanzooError
from ganzoo.evaluation.features import extractor_of
from ganzoo.registry.zoo import zoo
from ganzoo.testing.extractors import DATASET, digits
from ganzoo.testing.kit import ExaminedPart

#: features (n, ...) and labels (n,) of a set of images
Features = tuple[Tensor, Tensor]
#: number of reals, if the evaluator's minimum is not larger
_COUNT = 200


@functools.cache
def find_extractor(text: str) -> Extractor | None:
    """The extractor with this name, bound to the digits; None where it is not available offline."""
    with contextlib.suppress(GanzooError):
        extractor: Extractor = zoo().build("extractors", Choice.parse(text))
        extractor.bind(DATASET, digits())
        return extractor
    return None


@functools.cache
def _features(text: str, layer: str, count: int) -> dict[str, Features]:
    """Name -> (features, labels) of sets of images.

    `reals`: `count` training images; `held-out`: the test images; `slight noise`, `noise`: the reals with noise;
    `one image of noise`: one bad image, repeated `count` times.
    """
    extractor = find_extractor(text)
    if extractor is None or layer not in extractor.layers:
        return _clusters(count)
    reals, labels = digits("train").read(torch.arange(count))
    held_out, other_labels = digits("test").read(torch.arange(len(digits("test"))))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(reals.shape, generator=generator)
    images = {
        "reals": (reals, labels),
        "held-out": (held_out, other_labels),
        "slight noise": ((reals + 20 * noise).clamp(0, 255).to(torch.uint8), labels),
        "noise": ((reals + 150 * noise).clamp(0, 255).to(torch.uint8), labels),
        "one image of noise": ((128 + 80 * noise[:1]).clamp(0, 255).to(torch.uint8).repeat(count, 1, 1, 1), labels),
    }
    return {name: (extractor(pictures)[layer], classes) for name, (pictures, classes) in images.items()}


def _clusters(count: int, dimensions: int = 24, classes: int = 8) -> dict[str, Features]:
    """The same names, with synthetic features (count, dimensions): one Gaussian cluster for each class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes

    def draw() -> Tensor:
        centres = 6 * torch.nn.functional.one_hot(labels, dimensions).float()
        return centres + torch.randn(count, dimensions, generator=generator)

    reals = draw()
    return {
        "reals": (reals, labels),
        "held-out": (draw(), labels),
        # the features move towards the mean, so that a classifier is less certain; noise alone would make it more
        # certain
        "slight noise": (_blurred(reals, 0.1, generator), labels),
        "noise": (_blurred(reals, 0.9, generator), labels),
        "one image of noise": (torch.full_like(reals, -9.0), labels),
    }


def _blurred(reals: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Replace this share of each feature by the mean over the reals, with a little noise."""
    noise = torch.randn(reals.shape, generator=generator)
    return (1 - share) * reals + share * (reals.mean(dim=0) + 0.1 * noise)


def features_of(part: ExaminedPart) -> dict[str, Features]:
    """The sets of features that an evaluator is checked with, by the names of `_features`."""
    evaluator = part.build()
    return _features(str(extractor_of(evaluator)), evaluator.layer, max(_COUNT, evaluator.minimum))
