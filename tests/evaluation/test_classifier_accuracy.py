"""The accuracy of an extractor that predicts classes: on the card, measured once, and a warning where it is too low."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ZOO, ganzoo
from torch import Tensor

from ganzoo import Choice, UsageError
from ganzoo.contract.protocol import Protocol
from ganzoo.evaluation import classifier
from ganzoo.evaluation.scorer import Scorer
from ganzoo.experiments.table import card_of_seeds
from ganzoo.results.report import tables
from ganzoo.storage.files import digest_of
from ganzoo_plugins.extractors.domain import PINNED, Domain

CPU = torch.device("cpu")

PARTS = """
import os
import torch
import ganzoo

class Shades(ganzoo.Dataset):
    "Noise with a shade for each of its classes; the labels are those of the shades, or drawn by lot."
    def __init__(self, *, split: str = "train", labels: str = "true", test: str = "yes"):
        if test == "no" and split == "test":
            raise FileNotFoundError("no test images here")
        count, by_lot = (64, 1) if split == "train" else (200, 2)
        of_images = torch.arange(count) % 4
        noise = torch.randint(0, 40, (count, 1, 8, 8), generator=torch.Generator().manual_seed(by_lot))
        self.images = (noise + 60 * of_images[:, None, None, None]).to(torch.uint8)
        lot = torch.randint(0, 4, (count,), generator=torch.Generator().manual_seed(by_lot))
        self.labels = lot if labels == "lot" else of_images
        if test == "one class" and split == "test":
            self.labels = torch.zeros_like(self.labels)
        self.spec = ganzoo.ImageSpec(1, 8, 8, 4)
    def __len__(self):
        return len(self.images)
    def read(self, indices):
        return self.images[indices], self.labels[indices]

class Brightest(ganzoo.Extractor):
    "Predicts the class by the mean brightness."
    predicts, digest, layers = "classes", "brightest", {"classes": 4}
    passes = 0
    def forward(self, images):
        type(self).passes += len(images)
        shade = images.float().flatten(1).mean(1) / 60
        return {"classes": -(shade[:, None] - 0.33 - torch.arange(4)).abs()}

class Elsewhere(Brightest):
    "Predicts by a layer that it does not have."
    predicts = "logits"

class Mean(ganzoo.Evaluator):
    "The mean of the features."
    layer, scores = "classes", {"mean": ganzoo.Score("higher", low=-100.0)}
    def __init__(self, *, extractor: str = "parts.py:Brightest"):
        self.extractor = extractor
    def reset(self, dimensions, device):
        self.total = 0.0
    def update(self, features, labels, origin):
        self.total += float(features.mean()) * (origin == "fakes")
    def compute(self):
        return {"mean": self.total}
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("parts") / "parts.py"
    file.write_text(PARTS)
    return file


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "accuracy"


def cards(dataset: Choice, *evaluators: Choice, protocol: str = "default") -> list[dict[str, Any]]:
    """The cards of the scores of black images."""
    scorer = Scorer(ZOO, dataset, evaluators, CPU, Protocol.named(protocol), 100)
    shape = scorer.reals.dataset.spec
    black = torch.zeros(100, shape.channels, shape.height, shape.width, dtype=torch.uint8)
    return [line["card"] for line in scorer.score([(black, torch.arange(100) % shape.classes)], {})]


def test_the_card_has_the_test_accuracy_and_compares_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    by_domain, by_logits, by_pixels = cards(
        Choice("digits"), Choice("fid-domain"), Choice("class-accuracy"), Choice("sliced-wasserstein")
    )
    found = by_domain["classifier"]
    test_images, test_labels = ZOO.build("datasets", Choice("digits"), split="test").read(torch.arange(299))
    extractor = Domain()
    extractor.bind("digits", ZOO.build("datasets", Choice("digits"), split="train"))
    assert found["test_accuracy"] == pytest.approx(share(extractor(test_images)["logits"], test_labels), abs=1e-6)
    assert found["test_accuracy"] > 0.97
    assert found["test_images"] == 299
    assert found["largest_class"] == pytest.approx(int(test_labels.bincount().max()) / 299, abs=1e-6)
    assert by_logits["classifier"] == found
    assert "classifier" not in by_pixels  # the pixels predict nothing
    assert capsys.readouterr().err == ""
    for card in (by_domain, by_logits):
        assert card["digest"] == digest_of(card["measure"])[:16]
        assert set(card["measure"]) == {"score", "evaluator", "extractor", "reals", "fakes", "shape", "precision"}
        assert not {"test_accuracy", "classifier", "predicts"} & set(card["measure"]["extractor"])


def share(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


@pytest.mark.parametrize("protocol", ["default", "lucic2018"])
def test_labels_by_lot_are_warned_of_in_one_sentence(
    parts: Path, capsys: pytest.CaptureFixture[str], protocol: str
) -> None:
    evaluators = Choice("class-accuracy"), Choice("mode-coverage")
    (card, *_) = cards(Choice(f"{parts}:Shades", {"labels": "lot"}), *evaluators, protocol=protocol)
    assert card["classifier"]["test_accuracy"] < 0.4
    said = [line for line in capsys.readouterr().err.splitlines() if "classifies" in line]
    (line,) = said
    assert line.startswith(f"Extractor domain classifies {card['classifier']['test_accuracy']:.1%} of the 200 test ")
    assert "not clearly more than the" in line
    assert "scores that use it mean little (class-accuracy, modes, modes-missing, modes-kl)" in line
    assert "check the labels of" in line


def test_true_labels_are_not_warned_of(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (card,) = cards(Choice(f"{parts}:Shades"), Choice("class-accuracy"))
    assert card["classifier"]["test_accuracy"] > 0.9
    assert "mean little" not in capsys.readouterr().err


def test_it_is_measured_once_also_for_an_extractor_that_was_cached_before(
    parts: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, evaluator = Choice(f"{parts}:Shades"), Choice(f"{parts}:Mean")
    brightest = ZOO.load("extractors", Choice(f"{parts}:Brightest"))

    def passes() -> int:
        before = brightest.passes
        (card,) = cards(dataset, evaluator)
        assert card["classifier"] == {"test_accuracy": 1.0, "largest_class": 0.25, "test_images": 200}
        return int(brightest.passes - before)

    fakes, reals, test = 100, 64, 200
    assert passes() == fakes + reals + test
    assert passes() == fakes + reals  # this evaluator keeps no statistics of the reals
    (file,) = own_cache.iterdir()
    good = file.read_text()
    file.write_text(good.replace('"test_accuracy": 1.0', '"test_accuracy": 0.2'))  # damaged: never believed
    assert passes() == fakes + reals + test
    assert file.read_text() == good
    cards(dataset, Choice("fid-domain"))
    (weights,) = (own_cache.parent / "domain").glob("*.safetensors")
    before = weights.read_bytes()
    for file in own_cache.iterdir():  # as an earlier version left the cache
        file.unlink()
    capsys.readouterr()
    (card,) = cards(dataset, Choice("fid-domain"))
    assert card["classifier"]["test_accuracy"] > 0.9
    assert weights.read_bytes() == before
    assert capsys.readouterr().err == ""


def test_without_test_images_the_score_is_given_and_the_accuracy_is_not_known(
    parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (card,) = cards(Choice(f"{parts}:Shades", {"test": "no"}), Choice(f"{parts}:Mean"))
    assert card["classifier"] == {"test_accuracy": None, "largest_class": None, "test_images": 0}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("How well extractor ")
    assert "is not known: " in line
    assert "no test images here" in line


def test_of_test_images_of_one_class_nothing_can_be_told(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (card,) = cards(Choice(f"{parts}:Shades", {"test": "one class"}), Choice(f"{parts}:Mean"))
    assert card["classifier"]["largest_class"] == 1
    assert "cannot be checked, because the 200 test images are all of one class: scores" in capsys.readouterr().err


def test_an_extractor_that_predicts_by_no_layer_of_its_own_is_refused(parts: Path) -> None:
    with pytest.raises(UsageError, match=r"Elsewhere predicts classes by its layer 'logits' and has no such layer"):
        cards(Choice(f"{parts}:Shades"), Choice(f"{parts}:Mean", {"extractor": f"{parts}:Elsewhere"}))


@pytest.mark.parametrize(
    ("largest", "images", "least"),
    [(0.1, 10_000, 0.19), (0.5, 10_000, 0.55), (0.5, 100, 0.65), (0.5, 4, 0.75), (0.9, 100, 0.95), (0.001, 50, 0.01)],
)
def test_the_floor_is_clearly_above_the_largest_class(largest: float, images: int, least: float) -> None:
    floor = classifier.floor(largest, images)
    assert floor == pytest.approx(max(least, largest + 0.1 * (1 - largest)))
    assert largest < floor < 1


@pytest.mark.parametrize("name", sorted(PINNED))
def test_the_pinned_weights_are_far_above_the_floor(name: str) -> None:
    record = json.loads(PINNED[name].with_suffix(".json").read_text())
    assert record["test_accuracy"] > classifier.floor(0.12, 299) + 0.5


def test_guesses_are_below_the_floor_nearly_always() -> None:
    generator = torch.Generator().manual_seed(0)
    for classes, images in ((2, 30), (2, 1000), (10, 100), (10, 1000), (100, 1000)):
        labels, guesses = torch.randint(0, classes, (2, 500, images), generator=generator)
        largest = torch.stack([row.bincount().max() for row in labels]) / images
        correct = (labels == guesses).double().mean(1)
        below = [
            bool(classifier.problem_of({"test_accuracy": float(a), "largest_class": float(b), "test_images": images}))
            for a, b in zip(correct, largest, strict=True)
        ]
        assert sum(below) >= 495, (classes, images)


def test_data_prepare_says_how_good_the_extractor_is() -> None:
    done = ganzoo("data", "prepare", "digits", "--json")
    assert done.exit_code == 0, done.output
    words = json.loads(done.stdout)["extractor"]
    assert words.startswith("ready, digest ")
    assert words.endswith("% of the test images correct")


def test_cards_of_earlier_versions_have_no_accuracy_and_are_read() -> None:
    reals, extractor = {"images": 10, "split": "train"}, {"name": "domain", "digest": "ab" * 32, "layer": "pre128"}
    measure = {"fakes": 100, "reals": reals, "shape": "1x8x8", "extractor": extractor}
    old = {"protocol": "default", "measure": measure, "digest": "cd" * 8, "seconds": 1.0}
    assert card_of_seeds(old) == {name: old[name] for name in ("protocol", "measure", "digest")}
    assert "classified" not in tables._measure(card_of_seeds(old))
    new = {**old, "classifier": {"test_accuracy": 0.9132, "largest_class": 0.1, "test_images": 500}}
    assert "pre128 (91.3% of the test images classified correctly);" in tables._measure(card_of_seeds(new))
    unknown = {**old, "classifier": {"test_accuracy": None, "largest_class": None, "test_images": 0}}
    assert tables._measure(card_of_seeds(unknown)) == tables._measure(old)
