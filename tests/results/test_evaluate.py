"""Scores of a run: reals and fakes, cards, observers, and requests that are refused before anything is written."""

from __future__ import annotations

import json
import os
import random
import shutil
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from helpers import ZOO, change_environment, forget_recipe, ganzoo, sample, tiny_recipe
from PIL import Image

from ganzoo import Choice, GanzooError, UsageError
from ganzoo.contract.choice import Amount
from ganzoo.contract.protocol import Protocol
from ganzoo.engine.fingerprint import training_images_sha256
from ganzoo.evaluation import features, scorer
from ganzoo.registry.recipes import plan
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.results.evaluate import evaluate
from ganzoo.results.training_images import check_training_images
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.train import resume, start

CPU = torch.device("cpu")
BRIGHTNESS = f"{tiny.__file__}:Brightness"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    fields = {"length": "8 steps", "checkpoint_every": "4 steps", "ema_half_life": 50}
    fields["observers"] = f"{tiny.__file__}:Listener"
    start(tiny_recipe(**fields), out, ZOO, CPU, note=lambda text: None)
    return out


@pytest.fixture
def run(trained: Path) -> Path:
    (trained / "scores.jsonl").unlink(missing_ok=True)
    return trained


def score(run: Path, *evaluators: str, samples: int = 600, **more: Any) -> list[dict[str, Any]]:
    return evaluate(run, ZOO, CPU, [Choice.parse(name) for name in evaluators or (BRIGHTNESS,)], samples, **more)


def test_a_card_describes_how_a_score_was_measured(run):
    brightness, reals, fakes = score(run, seed=3)
    assert brightness["score"] == "brightness"
    assert brightness["better"] == "lower"
    assert 0 < brightness["value"] < 1
    assert (reals["value"], fakes["value"]) == (1498, 600)
    card = brightness["card"]
    measure = card["measure"]
    assert measure["evaluator"]["location"] == "tiny.py:Brightness"
    assert len(measure["evaluator"]["sha256"]) == 64
    assert measure["evaluator"]["options"] == {"layer": "pixels", "fails": "", "held_out": False}
    assert measure["extractor"] | {"sha256": ""} == {
        "name": "tiny.py:Pixels",
        "location": "tiny.py:Pixels",
        "sha256": "",
        "options": {},
        "layer": "pixels",
        "digest": "pixels-1",
        "preprocessing": "none",
    }
    reals_of = {"dataset": "digits", "split": "train", "sha256": "", "images": 1498}
    assert measure["reals"] | {"sha256": ""} == reals_of
    assert len(measure["reals"]["sha256"]) == 64
    assert (measure["fakes"], measure["shape"], measure["precision"]) == (600, "1x8x8", "fp32")
    assert (card["protocol"], len(card["digest"])) == ("default", 16)
    assert card["subject"] == {
        "weights": "averaged",
        "images_seen": 128,
        "training_seed": 0,
        "seed": 3,
        "training_images": "same",
    }
    assert card["versions"].keys() >= {"torch-ganzoo", "torch"}
    assert datetime.fromisoformat(card["time"]).tzinfo is not None
    assert (brightness["step"], brightness["images"], brightness["training"]) == (8, 128, False)
    assert reals["card"]["measure"] == measure | {"score": "reals"}


def test_cards_tell_what_can_be_compared(run):
    digest = {name: score(run, **more)[0]["card"]["digest"] for name, more in (
        ("plain", {}),
        ("other latents", {"seed": 5}),
        ("earlier", {"at": 64}),
        ("fewer fakes", {"samples": 599}),
        ("test images", {"protocol": "lucic2018"}),
    )}  # fmt: skip
    assert digest["plain"] == digest["other latents"] == digest["earlier"]
    assert len(set(digest.values())) == 3
    other = score(run, f"{BRIGHTNESS}:held_out=yes")[0]["card"]
    assert other["digest"] not in digest.values()
    assert other["measure"]["held_out"]["split"] == "test"


def test_the_digest_does_not_depend_on_how_parts_are_named(run, tmp_path):
    elsewhere = tmp_path / "tiny.py"
    elsewhere.write_bytes(Path(tiny.__file__).read_bytes())
    first, second = (
        scorer.Scorer(ZOO, dataset, [Choice(f"{file}:Brightness")], CPU, Protocol.named("default"), 20)
        for dataset, file in (
            (Choice("digits", {"size": "8"}), tiny.__file__),
            (Choice("torch-ganzoo/digits", {"size": 8}), elsewhere),
        )
    )
    fakes = [(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), torch.zeros(20, dtype=torch.int64))]
    digests = {scorer.score(fakes, {})[0]["card"]["digest"] for scorer in (first, second)}
    digests.add(score(run, samples=20)[0]["card"]["digest"])
    assert len(digests) == 1


def test_scores_are_appended_to_the_run_and_nothing_else_is_changed(run):
    def contents() -> dict[str, bytes]:
        ours = ("scores.jsonl", "told.txt")
        return {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name not in ours}

    before = contents()
    first, second = score(run), score(run, samples=100)
    assert Run.open(run).lines("scores.jsonl") == [*first, *second]
    assert contents() == before


def test_the_observers_of_the_run_are_called(run):
    (run / "told.txt").unlink(missing_ok=True)
    score(run, at=64)
    score(run, BRIGHTNESS, "fid-domain")
    heard = ["4 64 brightness reals fakes", "8 128 brightness reals fakes fid-domain"]
    assert (run / "told.txt").read_text().splitlines() == heard


def test_a_score_is_a_function_of_the_seed(run):
    values = [score(run, seed=seed)[0]["value"] for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_the_requested_generator_is_scored(run):
    new, old = (score(run, at=at) for at in (None, 64))
    assert (new[0]["images"], old[0]["images"]) == (128, 64)
    assert new[0]["value"] != old[0]["value"]
    with pytest.raises(GanzooError, match="has no generator saved at 65 images; it has them at 64, 128 images"):
        score(run, at=65)


def test_the_reals_are_those_of_the_protocol(run):
    train, test = (score(run, protocol=protocol) for protocol in ("default", "lucic2018"))
    assert (train[1]["value"], test[1]["value"]) == (1498, 299)
    reals = [lines[0]["card"]["measure"]["reals"] for lines in (train, test)]
    assert reals[0]["sha256"] != reals[1]["sha256"]
    assert reals[1]["split"] == "test"
    assert score(run, f"{BRIGHTNESS}:held_out=yes")[1]["value"] == 1498 + 299


CELLS = """
import hashlib, ganzoo
class Middle(ganzoo.Extractor):
    "The four pixels in the middle."
    layers = {"pixels": 4}
    digest = hashlib.sha256(b"middle").hexdigest()
    precision = "bf16"
    def forward(self, images):
        return {"pixels": images[:, 0, 3:5, 3:5].float().flatten(1) / 255}
class Grey(ganzoo.Evaluator):
    "How bright the middle is."
    layer, scores = "pixels", {"grey": ganzoo.Score("higher")}
    def __init__(self, *, extractor: str = "cells.py:Middle"):
        self.extractor = extractor
    def reset(self, dimensions, device):
        self.total = 0.0
    def update(self, features, labels, origin):
        self.total += float(features.sum()) * (origin == "fakes")
    def compute(self):
        return {"grey": self.total}
"""


def test_the_path_of_an_extractor_is_relative_to_the_file_of_the_evaluator(run, tmp_path, monkeypatch):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "cells.py").write_text(CELLS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    found = [score(run, f"parts/cells.py:Grey{option}")[0] for option in ("", ":extractor=parts/cells.py:Middle")]
    resolved = ZOO.resolve("evaluators", Choice.parse("parts/cells.py:Grey:extractor=parts/cells.py:Middle"))
    assert resolved.options == {"extractor": f"{tmp_path}/parts/cells.py:Middle"}
    monkeypatch.chdir(tmp_path / "elsewhere")
    found += [score(run, "../parts/cells.py:Grey")[0], score(run, str(resolved))[0]]
    assert len({line["value"] for line in found}) == 1
    assert {line["card"]["measure"]["extractor"]["name"] for line in found} == {"cells.py:Middle"}
    assert len({line["card"]["digest"] for line in found}) == 1
    assert found[0]["card"]["measure"]["precision"] == "bf16"  # as the extractor declares


def passes_of(run: Path, *evaluators: str) -> int:
    pixels = ZOO.load("extractors", Choice(f"{tiny.__file__}:Pixels"))
    before = pixels.passes
    score(run, *evaluators)
    return int(pixels.passes - before)


def test_evaluators_of_one_extractor_share_its_passes_and_reals_pass_once(run, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    fakes, reals, held_out = 3, 3, 1  # batches
    twin = f"{tiny.__file__}:Darkness"
    assert passes_of(run, BRIGHTNESS, twin) == reals + fakes
    assert passes_of(run, BRIGHTNESS, twin) == fakes
    assert passes_of(run, f"{BRIGHTNESS}:held_out=yes") == reals + held_out + fakes
    assert passes_of(run, f"{BRIGHTNESS}:held_out=yes") == fakes
    files = list((tmp_path / "statistics").iterdir())
    assert len(files) == 3
    known = score(run)[0]["value"]
    for file in files:  # a damaged file counts as absent and is written again
        file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    assert passes_of(run, BRIGHTNESS) == reals + fakes
    assert score(run)[0]["value"] == known
    for file in files:
        file.write_bytes(b"no such thing")
    assert passes_of(run, BRIGHTNESS) == reals + fakes


def test_statistics_of_other_versions_are_not_used(run, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    passes_of(run, BRIGHTNESS)
    monkeypatch.setattr(features, "version", lambda name: "another")
    assert passes_of(run, BRIGHTNESS) == 6


def test_two_scores_of_one_name_are_refused(run):
    with pytest.raises(UsageError, match="both give the score 'brightness'"):
        score(run, BRIGHTNESS, f"{BRIGHTNESS}:held_out=yes")


def test_the_random_state_of_the_process_is_restored(run):
    def state() -> tuple[Any, ...]:
        return random.random(), np.random.rand(), torch.rand(1).item()

    fakes = [(torch.zeros(50, 1, 8, 8, dtype=torch.uint8), torch.zeros(50, dtype=torch.int64))]
    states = []
    for scores in (False, True):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        if scores:
            choices = [Choice(BRIGHTNESS), Choice("fid-domain")]
            digits = Choice("digits", {"size": 8})
            scorer.Scorer(ZOO, digits, choices, CPU, Protocol.named("default")).score(fakes, {})
        states.append(state())
    assert states[0] == states[1]


def test_the_domain_score_is_the_default(run):
    (line,) = evaluate(run, ZOO, CPU, samples=200)
    assert line["score"] == "fid-domain"
    assert line["value"] > 1
    assert line["card"]["measure"]["evaluator"]["id"] == "torch-ganzoo/fid-domain"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"samples": 1}, "--samples 1: a score needs at least 2 images"),
        ({"evaluators": f"{BRIGHTNESS}:layer=nothing"}, "has no layer 'nothing'; it has pixels, broken"),
        ({"evaluators": f"{BRIGHTNESS}:layer=broken"}, "The real images have features that are not finite"),
        ({"evaluators": f"{BRIGHTNESS}:fails=error"}, "There is no telling"),
        ({"evaluators": f"{BRIGHTNESS}:fails=nan"}, "computed brightness = nan, which is not a number between 0 and 1"),
        ({"protocol": "lucic"}, "There is no protocol 'lucic'. Did you mean 'lucic2018'"),
        ({"evaluators": "class-accuracy"}, "asks for classes, and this architecture is not conditional"),
        (
            {"evaluators": "memorisation", "protocol": "lucic2018"},
            "compares with the train images, and protocol lucic2018 with the test images",
        ),
        ({"at": "best"}, "has no best generator: it was not scored while it was trained"),
        ({"evaluators": "fid-domane"}, "There is no evaluator 'fid-domane'. Did you mean 'fid-domain'"),
        ({"evaluators": "fid-domain:layer=3"}, "Evaluator fid-domain has no option 'layer'"),
    ],
)
def test_a_meaningless_score_is_refused_and_not_written(run, arguments, words):
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
def test_a_run_without_its_dataset_cannot_be_scored_but_can_be_sampled(run, dataset, words, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    forget_recipe(copy)
    recipe = copy / "recipe.json"
    recipe.write_text(json.dumps({**json.loads(recipe.read_text()), "dataset": dataset}))
    with pytest.raises(GanzooError) as error:
        score(copy)
    assert words in str(error.value)
    assert not (copy / "scores.jsonl").exists()
    assert sample(copy, ZOO, CPU, tmp_path / "a.png").is_file()


def test_an_observer_that_is_gone_is_reported_before_anything_is_computed(run):
    recipe = run / "recipe.json"
    before = recipe.read_text()
    pixels = ZOO.load("extractors", Choice(f"{tiny.__file__}:Pixels"))
    passes = pixels.passes
    try:
        recipe.write_text(before.replace("tiny.py:Listener", "gone.py:Listener"))
        with pytest.raises(GanzooError, match=r"gone\.py"):
            score(run)
    finally:
        recipe.write_text(before)
    assert pixels.passes == passes
    assert not (run / "scores.jsonl").exists()


FAILING = """
import ganzoo
class Failing(ganzoo.Observer):
    "Fails on every score."
    @ganzoo.hookimpl
    def on_score(self, scores):
        raise RuntimeError("no network")
"""


def test_the_error_of_an_observer_tells_where_the_scores_are(run, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    recipe = run / "recipe.json"
    before = recipe.read_text()
    try:
        listener, failing = (
            json.dumps(name) for name in (f"{tiny.__file__}:Listener", f"{tmp_path}/failing.py:Failing")
        )
        recipe.write_text(before.replace(listener, failing))
        with pytest.raises(GanzooError, match=r"failed in on_score: .*no network.* The scores are in .*scores\.jsonl"):
            score(run)
    finally:
        recipe.write_text(before)
    assert len(Run.open(run).lines("scores.jsonl")) == 3


def test_evaluators_are_checked_before_the_dataset_is_read():
    gone = Choice("image-folder", {"path": "/nowhere"})
    for choices, protocol, samples, words in (
        ([BRIGHTNESS, f"{BRIGHTNESS}:held_out=yes"], "default", 100, "both give the score 'brightness'"),
        (["memorisation"], "lucic2018", 100, "compares with the train images"),
        (["memorisation"], "default", 99, "needs at least 100 images of each kind, and there are 99 generated ones"),
    ):
        evaluators = [Choice.parse(name) for name in choices]
        with pytest.raises(UsageError, match=words):
            scorer.Scorer(ZOO, gone, evaluators, CPU, Protocol.named(protocol), samples)


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        score(tmp_path)


class Folder:
    """A folder of pictures, one shade a class, and a run that was trained on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.run = root / "pictures", root / "run"
        for label, name in enumerate(("cats", "dogs")):
            self.add(name, range(40), 60 + 100 * label)
        choice = Choice("image-folder", {"path": str(self.root), "size": 8, "channels": 1})
        fields = {"length": "2 steps", "batch_size": 8}
        recipe = plan(ZOO, Choice(f"{tiny.__file__}:Tiny"), choice, None, fields)
        start(recipe, self.run, ZOO, CPU, note=lambda text: None)

    def add(self, name: str, numbers: range, shade: int) -> None:
        (self.root / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.new("L", (8, 8), shade + number % 50).save(self.root / name / f"{number}.png")

    def change_recorded(self, **facts: Any) -> None:
        change_environment(self.run, **facts)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    return Folder(tmp_path)


def test_classes_that_differ_from_those_of_the_training_are_refused(folder, capsys):
    subject = score(folder.run, samples=20)[0]["card"]["subject"]
    assert subject["training_images"] == "same"
    folder.add("birds", range(40), 10)
    with pytest.raises(GanzooError, match=r"2 classes then, 3 now; new: birds.*--accept-changed-images"):
        score(folder.run, samples=20)
    subject = score(folder.run, samples=20, changed_images=True)[0]["card"]["subject"]
    assert subject["training_images"] == "other"
    assert subject["changed"] == "2 classes then, 3 now; new: birds"
    assert "The dataset has changed since the training" in capsys.readouterr().err
    (folder.root / "birds").rename(folder.root.parent / "birds")
    (folder.root / "cats").rename(folder.root / "wolves")
    with pytest.raises(GanzooError, match=r"gone: cats; new: wolves"):
        score(folder.run, samples=20)


def test_images_of_another_shape_are_refused(folder):
    folder.change_recorded(images={"channels": 1, "height": 4, "width": 4, "classes": 2})
    run = Run.open(folder.run)
    trained = SimpleNamespace(path=run.path, recipe=run.recipe, environment=run.environment)
    train = ZOO.build("datasets", trained.recipe.dataset, split="train")
    with pytest.raises(GanzooError, match=r"1x4x4 then, 1x8x8 now.*a score would mean nothing"):
        check_training_images(trained, train, False, print)


def test_other_images_of_the_same_kind_are_noted(folder, capsys):
    folder.add("cats", range(40, 60), 60)
    subject = score(folder.run, samples=20)[0]["card"]["subject"]
    assert subject["training_images"] == "other"
    assert "are not those that" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_has_not_recorded_its_images(folder, capsys):
    facts = json.loads((folder.run / "environment.json").read_text())
    facts.pop("sha256")
    del facts["training_images"]
    (folder.run / "environment.json").write_text(json.dumps(facts))
    assert score(folder.run, samples=20)[0]["card"]["subject"]["training_images"] == "not recorded"
    assert not capsys.readouterr().err


def test_a_recorded_order_of_classes_is_kept(folder, capsys):
    """An earlier version sorted the names of the classes in another way: the run's own order is used."""
    run = Run.open(folder.run)
    before = recorded_zoo(run, ZOO).build("datasets", run.recipe.dataset, split="train")
    images, labels = before.read(torch.arange(len(before)))
    facts = json.loads((folder.run / "environment.json").read_text())
    fingerprint = training_images_sha256(lambda at: (images[at], 1 - labels[at]), len(images), before.spec)
    folder.change_recorded(class_names=facts["class_names"][::-1], training_images=fingerprint)
    assert score(folder.run, samples=20)[0]["card"]["subject"]["training_images"] == "same"
    saved = checkpoints.load_latest(folder.run / "checkpoints")
    shutil.rmtree(folder.run / "checkpoints")
    meta = {name: value for name, value in saved.meta.items() if name != "history"}  # as version 0.1 wrote it
    checkpoints.save(folder.run / "checkpoints", f"{meta['images']:09d}", saved.tensors, meta)
    (folder.run / "history.json").unlink()
    resume(folder.run, ZOO, "cpu", Amount(4, "steps"), note=print)
    assert "another" not in capsys.readouterr().out


# --- a run that cannot be written ---


def test_scores_of_a_run_that_cannot_be_written_are_printed(run):
    kept = run / "scores.jsonl"
    kept.mkdir()  # a file of that name cannot be opened, also not by root
    (run / "told.txt").touch()  # where no test before has made it
    told = (run / "told.txt").read_text()
    try:
        done = ganzoo("evaluate", run, "-e", BRIGHTNESS, "--samples", 600, "--json")
        assert done.exit_code == 0, done.output
        assert [line["score"] for line in json.loads(done.stdout)["scores"]] == ["brightness", "reals", "fakes"]
        assert f"The scores are not kept: {kept} cannot be written (Is a directory)." in done.stderr
        assert (run / "told.txt").read_text() == told, "observers are called with what was appended"
    finally:
        kept.rmdir()
    assert json.loads(done.stdout)["scores"][0]["value"] == score(run)[0]["value"]


def test_a_grid_for_a_run_that_cannot_be_written_is_refused_before_it_is_drawn(run, tmp_path, monkeypatch):
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: not (mode & os.W_OK and Path(path) == run) and real(path, mode)
    )
    for arguments in ((), ("--interpolate",), ("--gif",)):
        refused = ganzoo("sample", run, *arguments)
        assert refused.exit_code == 2
        assert f"{run} cannot be written: name a file in another folder with -o." in refused.stderr
    assert ganzoo("sample", run, "-o", tmp_path / "a.png").exit_code == 0
