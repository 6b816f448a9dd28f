"""Scores: what is fed to whom, what the card says, and how a score that would mean nothing is refused."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ganzoo import Choice, GanzooError, UsageError
from ganzoo.assembly import plan
from ganzoo.evaluate import evaluate
from ganzoo.run import Run
from ganzoo.sample import sample
from ganzoo.train import start
from ganzoo.zoo import Zoo

CPU = torch.device("cpu")
ZOO = Zoo()
BRIGHTNESS = f"{tiny.__file__}:Brightness"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    fields = {"length": "8 steps", "checkpoint_every": "4 steps", "average_half_life": 50}
    fields["observers"] = f"{tiny.__file__}:Listener"
    recipe = plan(ZOO, Choice(f"{tiny.__file__}:Tiny"), Choice("digits", {"size": 8}), None, fields)
    start(recipe, out, ZOO, CPU, note=lambda text: None)
    return out


@pytest.fixture
def run(trained: Path) -> Path:
    (trained / "scores.jsonl").unlink(missing_ok=True)
    return trained


def score(run: Path, *evaluators: str, samples: int = 600, **more: Any) -> list[dict[str, Any]]:
    return evaluate(run, ZOO, CPU, [Choice.parse(name) for name in evaluators or (BRIGHTNESS,)], samples, **more)


def test_a_score_has_a_card_that_says_how_it_was_made(run):
    brightness, reals, fakes = score(run, seed=3)
    assert brightness["score"] == "brightness"
    assert brightness["better"] == "lower"
    assert 0 < brightness["value"] < 1
    assert (reals["value"], fakes["value"]) == (1498, 600)
    card = brightness["card"]
    assert card["evaluator"]["location"] == BRIGHTNESS
    assert len(card["evaluator"]["sha256"]) == 64
    assert card["evaluator"]["options"] == {"layer": "pixels", "fails": False}
    assert card["extractor"] == {"name": f"{tiny.__file__}:Pixels", "layer": "pixels", "digest": "pixels-1"}
    assert card["dataset"] | {"sha256": ""} == {
        "choice": "digits:size=8",
        "split": "train",
        "sha256": "",
        "images": 1498,
    }
    assert len(card["dataset"]["sha256"]) == 64
    expected = {
        "images": "1x8x8",
        "samples": 600,
        "seed": 3,
        "weights": "averaged",
        "images_seen": 128,
        "precision": "fp32",
    }
    assert {name: card[name] for name in expected} == expected
    assert card["versions"].keys() >= {"torch-ganzoo", "torch"}
    assert datetime.fromisoformat(card["time"]).tzinfo is not None
    assert reals["card"] == card


def test_scores_are_appended_to_the_run_and_nothing_else_is_touched(run):
    def contents() -> dict[str, bytes]:
        ours = ("scores.jsonl", "told.txt")
        return {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name not in ours}

    before = contents()
    first, second = score(run), score(run, samples=100)
    assert Run.open(run).lines("scores.jsonl") == [*first, *second]
    assert contents() == before


def test_the_observers_of_the_run_are_told(run):
    (run / "told.txt").unlink(missing_ok=True)
    score(run, at=64)
    score(run, BRIGHTNESS, "fid-domain")
    heard = ["4 64 brightness reals fakes", "8 128 brightness reals fakes fid-domain"]
    assert (run / "told.txt").read_text().splitlines() == heard


def test_a_score_is_a_function_of_the_seed(run):
    values = [score(run, seed=seed)[0]["value"] for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_the_fakes_are_those_of_the_generator_that_was_asked_for(run):
    new, old = (score(run, at=at) for at in (None, 64))
    assert (new[0]["card"]["images_seen"], old[0]["card"]["images_seen"]) == (128, 64)
    assert new[0]["value"] != old[0]["value"]
    with pytest.raises(GanzooError, match="has no generator saved at 65 images; it has them at 64, 128 images"):
        score(run, at=65)


def test_the_reals_are_those_of_the_split(run):
    train, test = (score(run, split=split) for split in ("train", "test"))
    assert (train[1]["value"], test[1]["value"]) == (1498, 299)
    assert train[0]["card"]["dataset"]["sha256"] != test[0]["card"]["dataset"]["sha256"]
    assert test[0]["card"]["dataset"]["split"] == "test"


def test_evaluators_of_one_extractor_share_its_passes(run):
    pixels = ZOO.load("extractors", Choice(f"{tiny.__file__}:Pixels"))
    passes = []
    for evaluators in ([BRIGHTNESS], [BRIGHTNESS, BRIGHTNESS]):
        before = pixels.passes
        results = score(run, *evaluators)
        passes.append(pixels.passes - before)
    assert passes[0] == passes[1] > 2
    assert len(results) == 6
    assert results[0]["value"] == results[3]["value"]


def test_the_domain_score_is_the_default(run):
    (line,) = evaluate(run, ZOO, CPU, samples=200)
    assert line["score"] == "fid-domain"
    assert line["value"] > 1
    assert line["card"]["evaluator"]["id"] == "torch-ganzoo/fid-domain"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"samples": 1}, "--samples 1: a score needs at least 2 images"),
        ({"evaluators": f"{BRIGHTNESS}:layer=nothing"}, "its extractor has no layer 'nothing'; it has pixels, broken"),
        ({"evaluators": f"{BRIGHTNESS}:layer=broken"}, "The real images have features that are not finite"),
        ({"evaluators": f"{BRIGHTNESS}:fails=yes"}, "There is no telling"),
        ({"evaluators": "fid-domane"}, "There is no evaluator 'fid-domane'. Did you mean 'fid-domain'"),
        ({"evaluators": "fid-domain:layer=3"}, "Evaluator fid-domain has no option 'layer'"),
    ],
)
def test_a_score_that_would_mean_nothing_is_refused_and_not_written(run, arguments, words):
    evaluators = arguments.pop("evaluators", BRIGHTNESS)
    with pytest.raises(GanzooError) as error:
        score(run, evaluators, **arguments)
    assert words in str(error.value)
    assert not (run / "scores.jsonl").exists()


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("digitz", "There is no dataset 'digitz'. Did you mean 'digits'"),
        ({"name": "image-folder", "options": {"path": "/nowhere"}}, "/nowhere"),
    ],
)
def test_a_run_whose_dataset_is_gone_says_so_and_can_still_be_sampled(run, dataset, words, tmp_path):
    recipe = run / "recipe.json"
    before = recipe.read_text()
    try:
        recipe.write_text(json.dumps({**json.loads(before), "dataset": dataset}))
        with pytest.raises(GanzooError) as error:
            score(run)
        assert words in str(error.value)
        assert not (run / "scores.jsonl").exists()
        assert sample(run, ZOO, CPU, tmp_path / "a.png").is_file()
    finally:
        recipe.write_text(before)


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        score(tmp_path)
