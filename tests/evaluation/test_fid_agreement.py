"""FID of several packages for the same images and the same random Inception weights.

The test that takes minutes has as many images of each kind as `GANZOO_TEST_FID_IMAGES` says, 2,000 if it says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import random_inception
import torch
from scoring import frechet_by_hand, scores
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from ganzoo_plugins.datasets.digits import Digits
from ganzoo_plugins.evaluators._features import Precomputed
from ganzoo_plugins.evaluators.frechet import FID
from ganzoo_plugins.extractors.inception import Inception

LAYERS = ("64", "192", "768", "2048")
MANY = int(os.environ.get("GANZOO_TEST_FID_IMAGES", "2000"))
#: reals and fakes, by layer
Features = dict[str, tuple[Tensor, ...]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_inception.write(tmp_path_factory.mktemp("inception") / "random.pth")


def some_images(count: int) -> tuple[Tensor, Tensor]:
    """uint8 (count, 1, 28, 28): digits; and half of them inverted, half bytes at random."""
    generator = torch.Generator().manual_seed(count)
    images, _ = Digits(size=28).read(torch.arange(1498))
    reals, others = (images[torch.randint(len(images), (count,), generator=generator)] for _ in range(2))
    noise = torch.randint(0, 256, others.shape, generator=generator, dtype=torch.uint8)
    return reals, torch.where((torch.arange(count) % 2 == 0).reshape(-1, 1, 1, 1), noise, 255 - others)


def by_layer(extract: Callable[[Tensor], tuple[Tensor, ...]], images: tuple[Tensor, Tensor]) -> Features:
    """`extract` takes uint8 (n, 3, 28, 28)."""
    kinds = []
    with torch.no_grad():
        for kind in images:
            batches = [extract(batch.expand(-1, 3, -1, -1)) for batch in kind.split(50)]
            kinds.append([torch.cat(features) for features in zip(*batches, strict=True)])
    return dict(zip(LAYERS, zip(*kinds, strict=True), strict=True))


def fid_of(features: Features) -> dict[str, float]:
    return {layer: scores(FID(layer=layer), *kinds, batch=50)["fid"] for layer, kinds in features.items()}


def ours(weights: Path, images: tuple[Tensor, Tensor]) -> Features:
    extractor = Inception(weights=str(weights))
    extractor.bind("digits", Digits())
    return by_layer(lambda batch: tuple(extractor(batch)[layer] for layer in LAYERS), images)


def torch_fidelitys(weights: Path, images: tuple[Tensor, Tensor]) -> dict[str, float]:
    extractor = FeatureExtractorInceptionV3("reference", list(LAYERS), str(weights)).eval()
    found = {}
    for layer, kinds in by_layer(extractor, images).items():
        metric = fid_statistics_to_metric(*map(fid_features_to_statistics, kinds), verbose=False)
        found[layer] = metric["frechet_inception_distance"]
    return found


def torchmetricss(weights: Path, images: tuple[Tensor, Tensor]) -> dict[str, float]:
    """The features of torchmetrics for all layers in one pass, and its metric for each layer."""
    metric = FrechetInceptionDistance(2048, antialias=False, feature_extractor_weights_path=str(weights))
    network = type(metric.inception)("inception", list(LAYERS), str(weights), antialias=False)
    found = {}
    for layer, kinds in by_layer(network._torch_fidelity_forward, images).items():
        metric = FrechetInceptionDistance(Precomputed(int(layer)))
        for features, real in zip(kinds, (True, False), strict=True):
            metric.update(features.double(), real=real)  # the metric returns its value in the precision of the features
        found[layer] = float(metric.compute())
    return found


def errors(weights: Path, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """By layer, the relative differences of the two other values from ours, and of ours from the exact one."""
    images = some_images(count)
    features = ours(weights, images)
    values = fid_of(features)
    others = {"torch-fidelity": torch_fidelitys(weights, images), "torchmetrics": torchmetricss(weights, images)}
    for name, found in others.items():
        for layer in LAYERS:
            print(f"{count} images, {layer}: {values[layer]!r}, {name} {found[layer] / values[layer] - 1:+.1e}")  # noqa: T201
    return (
        {layer: max(abs(found[layer] / values[layer] - 1) for found in others.values()) for layer in LAYERS},
        {layer: abs(values[layer] / frechet_by_hand(*features[layer]) - 1) for layer in LAYERS},
    )


def test_fid_is_that_of_torch_fidelity_and_torchmetrics(weights: Path) -> None:
    others, exact = errors(weights, 12)
    assert max(exact.values()) < 1e-8, exact
    # with so few images the covariances are rank deficient: in many dimensions the others add up rounding errors
    for layer, bound in zip(LAYERS, (1e-6, 1e-6, 1e-5, 1e-5), strict=True):
        assert others[layer] < bound, others


@pytest.mark.slow
def test_fid_is_that_of_torch_fidelity_and_torchmetrics_of_many_images(weights: Path) -> None:
    others, exact = errors(weights, MANY)
    assert max(exact.values()) < 2e-6, exact
    assert max(others.values()) < 1e-6, others


def test_fid_is_that_of_pytorch_fid_but_for_its_resize(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytorch-fid interpolates as torch does now, not as TensorFlow did: a difference of a few per cent."""
    theirs = pytest.importorskip("pytorch_fid.inception", reason="pip install pytorch-fid to compare with it")
    state = torch.load(weights, weights_only=True)
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *given, **named: state)
    network = theirs.InceptionV3([0, 1, 2, 3]).eval()
    pool = torch.nn.AdaptiveAvgPool2d(1)
    images = some_images(12)
    features = by_layer(lambda batch: tuple(pool(maps).flatten(1) for maps in network(batch / 255)), images)
    values, references = fid_of(ours(weights, images)), fid_of(features)
    print({layer: references[layer] / values[layer] - 1 for layer in LAYERS})  # noqa: T201
    assert references == pytest.approx(values, rel=0.1)
    assert references != pytest.approx(values, rel=1e-4)
