"""The evaluators on the original MNIST: numbers of docs/evaluation.md, and the corruptions that each must detect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scoring import scores
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets.torchvision_sets import MNIST
from ganzoo_plugins.evaluators.class_accuracy import ClassAccuracy
from ganzoo_plugins.evaluators.density_coverage import DensityCoverage
from ganzoo_plugins.evaluators.inception_score import InceptionScoreDomain
from ganzoo_plugins.evaluators.memorisation import Memorisation
from ganzoo_plugins.evaluators.mode_coverage import ModeCoverage
from ganzoo_plugins.evaluators.precision_recall import PrecisionRecall
from ganzoo_plugins.extractors.domain import Domain

pytestmark = pytest.mark.slow
#: number of images of each kind; with more, the tests take minutes
COUNT = 2000


class Real:
    """Some real digits by split: images, labels and the features of both layers."""

    def __init__(self, split: str, count: int) -> None:
        self.dataset = MNIST(split=split)
        self.images, self.labels = self.dataset.read(torch.arange(count))
        self.extractor = Domain()
        self.extractor.bind("mnist", self.dataset)
        self.features = self.see(self.images)

    def see(self, images: Tensor) -> dict[str, Tensor]:
        batches = [self.extractor(batch) for batch in images.split(500)]
        return {layer: torch.cat([batch[layer] for batch in batches]) for layer in ("pre128", "logits")}


@pytest.fixture(scope="module")
def train(shared_data: Path) -> Real:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_DATA", str(shared_data))
        return Real("train", 10_000)


@pytest.fixture(scope="module")
def new(shared_data: Path) -> Real:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_DATA", str(shared_data))
        return Real("test", 2 * COUNT)


def judge(evaluator: ganzoo.Evaluator, train: Real, fakes: dict[str, Tensor], **given: Tensor) -> dict[str, float]:
    return scores(evaluator, train.features[evaluator.layer], fakes[evaluator.layer], batch=500, **given)


def noise(real: Real, deviation: float) -> dict[str, Tensor]:
    drawn = torch.randn(real.images.shape, generator=torch.Generator().manual_seed(0))
    return real.see(ganzoo.to_uint8(real.images + deviation * drawn, (0, 255)))


def chosen(real: Real, which: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {layer: features[which(real.labels)] for layer, features in real.features.items()}


def test_precision_recall_density_coverage(train: Real, new: Real) -> None:
    fakes = {
        "new": new.features,
        "noise": noise(new, 40),
        "dropped": chosen(new, lambda labels: labels >= 3),
        "repeated": {layer: rows[:100].repeat(40, 1) for layer, rows in new.features.items()},
    }
    found = {
        name: judge(PrecisionRecall(), train, each) | judge(DensityCoverage(), train, each)
        for name, each in fakes.items()
    }
    assert found["new"]["precision"] == pytest.approx(0.85, abs=0.05)
    assert found["new"]["recall"] == pytest.approx(0.84, abs=0.06)
    assert found["new"]["density"] == pytest.approx(0.95, abs=0.1)
    assert found["noise"]["precision"] < 0.6
    assert found["noise"]["density"] < 0.6 * found["new"]["density"]
    for name in ("dropped", "repeated"):
        assert found[name]["precision"] > 0.8
        assert found[name]["recall"] < 0.8 * found["new"]["recall"]
        assert found[name]["coverage"] < 0.8 * found["new"]["coverage"]
    assert found["repeated"]["recall"] < 0.02


def test_classes(train: Real, new: Real) -> None:
    whole = judge(ModeCoverage(), train, new.features)
    assert (whole["modes"], whole["modes-missing"]) == (10, 0)
    assert whole["modes-kl"] < 0.005
    for missing, divergence in ((1, 0.10), (3, 0.37), (5, 0.71)):
        found = judge(ModeCoverage(), train, chosen(new, lambda labels, missing=missing: labels >= missing))
        assert found["modes-kl"] == pytest.approx(divergence, abs=0.03)
    assert judge(ClassAccuracy(), train, new.features, labels=new.labels)["class-accuracy"] > 0.98
    assert judge(ClassAccuracy(), train, new.features, labels=new.labels * 0)["class-accuracy"] < 0.15
    assert judge(InceptionScoreDomain(), train, new.features)["inception-score-domain"] == pytest.approx(7.3, abs=0.3)
    half = judge(InceptionScoreDomain(), train, chosen(new, lambda labels: labels >= 5))
    assert half["inception-score-domain"] == pytest.approx(4.3, abs=0.4)


def test_memorisation(train: Real, new: Real) -> None:
    def remembered(fakes: Tensor) -> dict[str, float]:
        return scores(
            Memorisation(), train.features["pre128"], fakes, held_out=new.features["pre128"][COUNT:], batch=500
        )

    reals, tests = train.features["pre128"], new.features["pre128"][:COUNT]
    found = remembered(tests)
    assert found["authenticity"] == pytest.approx(0.68, abs=0.08)
    assert found["copies"] < 0.03
    assert (found["exact-copies"], found["twins"]) == (0, 0)
    assert -10 < found["distance-gap"] < 12
    fresh = found["mifid-domain"]

    found = remembered(reals[:100].repeat(50, 1))  # 5,000 copies of 100 training images
    assert (found["authenticity"], found["copies"], found["exact-copies"], found["twins"]) == (0, 1, 1, 1)
    assert found["distance-gap"] < -50
    assert found["mifid-domain"] > 1e3 * fresh

    found = remembered(torch.cat([reals[: COUNT // 2], tests[: COUNT // 2]]))
    assert (found["exact-copies"], found["twins"]) == (0.5, 0)
    assert found["copies"] == pytest.approx(0.51, abs=0.02)
    assert found["distance-gap"] < -15

    images = train.images[:COUNT]
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    found = remembered(train.see(ganzoo.to_uint8(images + 5 * drawn, (0, 255)))["pre128"])
    assert found["authenticity"] < 0.05
    assert found["copies"] > 0.9
    assert found["exact-copies"] == 0
