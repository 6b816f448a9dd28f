"""Calibration: corruptions of known strength, cached scores, and wrong requests refused with one sentence."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import ZOO, ganzoo
from PIL import Image

from ganzoo import Choice, Score, UsageError
from ganzoo.contract.protocol import PROTOCOLS, Protocol
from ganzoo.evaluation import calibrate, corruptions
from ganzoo.evaluation.scorer import Scorer
from ganzoo.results.report import calibration_plot

CPU = torch.device("cpu")
DEFAULT = Protocol.named("default")
DIGITS = Choice("digits", {"size": 8})
BRIGHTNESS = f"{tiny.__file__}:Brightness"
DARKNESS = f"{tiny.__file__}:Darkness"
DOCUMENT = Path(__file__).parents[2] / "docs" / "evaluation.md"


def measured(*evaluators: str, dataset: Choice = DIGITS, **more: Any) -> list[calibrate.Row]:
    protocol = more.pop("protocol", DEFAULT)
    return calibrate.calibrate(ZOO, dataset, [Choice.parse(name) for name in evaluators], CPU, protocol, **more)


def of(rows: list[calibrate.Row], damage: str, score: str) -> list[float]:
    """The values of a score under a corruption, weakest first, after the value of the uncorrupted images."""
    return [row["value"] for row in rows if row["score"] == score and row["damage"] in ("none", damage)]


def rising(values: list[float]) -> bool:
    return all(one < worse for one, worse in itertools.pairwise(values))


def passes() -> int:
    return int(ZOO.load("extractors", Choice(f"{tiny.__file__}:Pixels")).passes)


@pytest.fixture(scope="module")
def rows() -> list[calibrate.Row]:
    return measured("fid-domain", "mode-coverage", "memorisation", dataset=Choice("digits"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    return tmp_path / "calibration"


# --- the rows ---------------------------------------------------------------------------------------------------------


def test_there_is_a_row_for_each_corruption_and_score(rows):
    kinds = list(dict.fromkeys((row["damage"], row["strength"]) for row in rows))
    assert kinds == [
        ("none", 0),
        *(("noise", sd) for sd in (5, 10, 20, 40)),
        *(("blur", sd) for sd in (0.5, 1, 2)),
        *(("missing classes", count) for count in (1, 3, 5)),
        ("memorised", 100),
        ("uniform noise", 255),
    ]
    assert len(rows) == len(kinds) * (1 + 3 + 6)
    assert {row["images"] for row in rows if row["damage"] != "missing classes"} == {299}
    assert {row["better"] for row in rows if row["score"] == "fid-domain"} == {"lower"}
    # scores of other numbers of fakes cannot be compared, and have other digests
    digests = {row["images"]: row["digest"] for row in rows if row["score"] == "fid-domain"}
    assert len(set(digests.values())) == len(digests) == 4


@pytest.mark.parametrize("damage", ["noise", "blur", "missing classes", "memorised", "uniform noise"])
def test_the_domain_distance_grows_with_every_corruption(rows, damage):
    assert rising(of(rows, damage, "fid-domain"))


def test_evaluators_detect_what_they_are_meant_for(rows):
    assert rising(of(rows, "missing classes", "modes-kl"))
    assert rising([-modes for modes in of(rows, "missing classes", "modes")])
    assert of(rows, "memorised", "exact-copies") == [0, 1]
    assert of(rows, "memorised", "copies")[1] == 1
    uncorrupted, copied = of(rows, "memorised", "authenticity")
    assert (uncorrupted > 0.5, copied) == (True, 0)
    # the uncorrupted images are the held-out images themselves
    assert of(rows, "memorised", "distance-gap")[0] == 0


def test_the_baseline_is_the_score_of_the_real_images(rows):
    scorer = Scorer(ZOO, Choice("digits"), [Choice("fid-domain")], CPU, DEFAULT)
    images, labels = ZOO.build("datasets", Choice("digits"), split="test").read(torch.arange(299))
    (line,) = scorer.score([(images, labels)], {})
    baseline = calibrate.real_baseline(ZOO, Choice("digits"), [Choice("fid-domain")], CPU, DEFAULT, 10_000)
    assert baseline == {"fid-domain": line["value"]}
    undamaged = next(row for row in rows if row["score"] == "fid-domain")
    assert (undamaged["value"], undamaged["digest"]) == (line["value"], line["card"]["digest"])


def test_the_reals_of_the_protocol_are_never_the_fakes():
    test_reals = measured(BRIGHTNESS, protocol=Protocol.named("lucic2018"))
    counts = {row["score"]: row["value"] for row in test_reals if row["damage"] == "none"}
    assert (counts["reals"], counts["fakes"]) == (299, 1498)
    assert calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT)["fakes"] == 299
    fewer = calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 120)
    assert (fewer["reals"], fewer["fakes"]) == (1498, 120)


# --- the corruptions --------------------------------------------------------------------------------------------------


def test_noise_has_its_standard_deviation_and_is_deterministic():
    grey = torch.full((50, 1, 28, 28), 128, dtype=torch.uint8)
    noisy = corruptions.add_noise(grey, 10)
    assert noisy.dtype == torch.uint8
    assert float((noisy.float() - 128).std()) == pytest.approx(10, abs=0.1)
    assert float((noisy.float() - 128).mean()) == pytest.approx(0, abs=0.1)
    assert torch.equal(noisy, corruptions.add_noise(grey, 10))
    white = torch.full((5, 1, 28, 28), 255, dtype=torch.uint8)
    assert float((corruptions.add_noise(white, 40) == 255).float().mean()) == pytest.approx(
        0.5, abs=0.05
    )  # never wrapped


def test_a_blurred_point_is_a_gaussian_and_a_constant_image_is_unchanged():
    point = torch.zeros(1, 3, 21, 21, dtype=torch.uint8)
    point[:, :, 10, 10] = 255
    seen = corruptions.blur(point, 1)[0].float()
    # 255 / (2 pi) at the middle, e^(-1/2) of it one pixel away
    assert seen[:, 10, 10].tolist() == [41] * 3
    assert seen[:, 10, 11].tolist() == seen[:, 9, 10].tolist() == [25] * 3
    grey = torch.full((600, 1, 8, 8), 77, dtype=torch.uint8)
    assert torch.equal(corruptions.blur(grey, 2), grey)


def test_missing_classes_are_missing():
    assert corruptions.missing_counts(10) == [1, 3, 5]
    assert [corruptions.missing_counts(classes) for classes in (1, 2, 3, 4, 100)] == [
        [],
        [1],
        [1, 2],
        [1, 2],
        [10, 30, 50],
    ]
    calibration = calibrate.Calibration(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, None)
    for corruption in calibrate._corruptions(calibration, None):
        seen = torch.cat([labels for _, labels in corruption.batches()]).unique().tolist()
        gone = int(corruption.strength) if corruption.kind == "missing classes" else 0
        assert seen == list(range(gone, 10))


def test_memorised_images_are_training_images():
    found = calibrate.Calibration(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, None)
    (corruption,) = [c for c in calibrate._corruptions(found, None) if c.kind == "memorised"]
    train, _ = ZOO.build("datasets", DIGITS, split="train").read(torch.arange(1498))
    known = {image.numpy().tobytes() for image in train}
    seen = [image.numpy().tobytes() for images, _ in corruption.batches() for image in images]
    assert len(seen) == 299
    assert len(set(seen)) == 100
    assert set(seen) <= known


def test_another_dataset_is_scored_if_it_is_named():
    found = measured(BRIGHTNESS, other=Choice("digits", {"size": 8}), samples=100)
    assert [row["strength"] for row in found if row["damage"] == "other dataset"] == ["digits:size=8"] * 3


# --- the cache --------------------------------------------------------------------------------------------------------


def test_cached_scores_are_not_computed_again(cache):
    first = measured(BRIGHTNESS, samples=200)
    kinds = len({(row["damage"], row["strength"]) for row in first})
    assert len(list(cache.iterdir())) == kinds
    before = passes()
    assert measured(BRIGHTNESS, samples=200) == first
    assert (
        calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 200)["brightness"] == first[0]["value"]
    )
    assert passes() == before
    # only the second evaluator is computed
    both = measured(BRIGHTNESS, DARKNESS, samples=200)
    assert [row for row in both if not row["score"].endswith("again")] == first
    assert passes() - before == kinds + 3  # three batches of reals
    assert len(list(cache.iterdir())) == 2 * kinds


@pytest.mark.parametrize("spoil", ["cut", "value", "facts", "nothing", "list"])
def test_a_damaged_or_foreign_entry_is_measured_again(cache, spoil):
    baseline = calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150)
    (file,) = cache.iterdir()
    whole = file.read_text()
    entry = json.loads(whole)
    entry["scores"]["brightness"]["value"] = 0.5
    foreign = json.loads(whole)
    foreign["facts"]["versions"]["torch"] = "0.1"
    file.write_text(
        {
            "cut": whole[:-20],
            "value": json.dumps(entry),
            "facts": json.dumps(foreign),
            "nothing": "",
            "list": "[1]",
        }[spoil]
    )
    before = passes()
    assert calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150) == baseline
    assert passes() == before + 1  # the statistics of the reals are cached
    assert file.read_text() == whole


def test_other_versions_and_numbers_of_images_are_computed_anew(cache, monkeypatch):
    calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150)
    before = passes()
    calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 151)
    assert passes() == before + 1
    monkeypatch.setattr(calibrate, "versions", lambda: {"torch": "another"})
    calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150)
    assert passes() == before + 2


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file"))
    assert calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150)["fakes"] == 150


def test_requests_are_refused_before_an_extractor_is_built(monkeypatch):
    """Building the extractor of a new dataset takes minutes."""

    def build(*arguments: object) -> Scorer:
        raise AssertionError("the scorer was built")

    monkeypatch.setattr(calibrate, "Scorer", build)
    with pytest.raises(UsageError, match="--samples 300: digits:size=8 has only 299 images"):
        measured(BRIGHTNESS, samples=300)
    with pytest.raises(UsageError, match="--other digits has images of 1x16x16"):
        measured(BRIGHTNESS, other=Choice("digits"))


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_and_plots_the_scores(tmp_path):
    picture = tmp_path / "calibration.png"
    result = ganzoo("evaluate", "--calibrate", "digits", "-e", "mode-coverage", "-o", picture)
    assert result.exit_code == 0, result.output
    header, _, *lines = result.stdout.strip().splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "real images",
        "count",
        "modes (higher)",
        "modes-missing (lower)",
        "modes-kl (lower)",
    ]
    assert len(lines) == 13
    assert lines[0].split("|")[1:4] == [" undamaged                    ", " 299   ", " 10             "]
    assert str(picture) in result.stderr
    with Image.open(picture) as image:
        assert min(image.size) > 300
    result = ganzoo("evaluate", "--calibrate", "digits", "-e", "mode-coverage", "--json")
    assert len(json.loads(result.stdout)["scores"]) == 13 * 3
    drawn = re.search(r"The plot: (.+)", result.stderr)
    assert drawn is not None
    assert Path(drawn[1]).read_bytes() == picture.read_bytes()


def test_the_plot_accepts_any_values(rows):
    odd = [{**row, "value": 0.0 if row["damage"] == "none" else row["value"]} for row in rows]
    for some in (rows, odd, rows[:1]):
        assert calibration_plot.png(some, "title").startswith(b"\x89PNG")


def test_scores_are_printed_even_if_no_plot_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file"))
    result = ganzoo("evaluate", "--calibrate", "digits:size=8", "-e", BRIGHTNESS, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["scores"]) == 13 * 3
    assert "There is no plot: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits", "--samples", "400"], "--samples 400: digits has only 299 images in its test split"),
        (["digits", "-e", "kid-domain"], "needs at least 1000 images of each kind, and there are 299 generated ones"),
        (["digits", "-e", "fid-dommain"], "There is no evaluator 'fid-dommain'. Did you mean 'fid-domain'"),
        (["dgits"], "There is no dataset 'dgits'"),
        (["digits", "--other", "digits:size=8"], "--other digits:size=8 has images of 1x8x8, and digits of 1x16x16"),
        (["digits", "-o", "x.jpg"], "-o x.jpg: name a file that ends in .png"),
        (["digits", "--at", "best"], "--calibrate scores real images"),
    ],
)
def test_wrong_requests_get_one_sentence(arguments, words):
    result = ganzoo("evaluate", "--calibrate", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert words in error


def test_options_of_a_calibration_are_refused_without_one():
    assert "--other and -o belong to --calibrate" in ganzoo("evaluate", "-o", "x.png").stderr
    for given in (
        ["runs/a"],
        ["--at", "best"],
        ["--seed", "3"],
        ["--accept-changed-code"],
        ["--accept-changed-images"],
    ):
        refused = ganzoo("evaluate", *given, "--calibrate", "digits")
        assert refused.exit_code == 2
        assert "leave out RUN, --at, --seed, " in refused.stderr
    assert "or --calibrate a DATASET" in ganzoo("evaluate").stderr


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of images without classes, and one with two."""
    colours = torch.Generator().manual_seed(0)
    for folder in ("plain", "classes/dark", "classes/light"):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(12):
            pixels = torch.randint(0, 128, (8, 8, 3), dtype=torch.uint8, generator=colours)
            pixels += 120 if folder.endswith("light") else 0
            Image.fromarray(pixels.numpy()).save(tmp_path / folder / f"{index}.png")
    return tmp_path


def test_a_dataset_without_labels_has_domain_scores_but_none_of_classes(photographs):
    plain = f"image-folder:path={photographs}/plain,size=8,test_share=0.5"
    result = ganzoo("evaluate", "--calibrate", plain, "--json")
    assert result.exit_code == 0, result.output
    assert {row["score"] for row in json.loads(result.stdout)["scores"]} == {"fid-domain"}
    assert "the features of fid-domain are of a network that is not trained" in result.stderr
    for name in ("mode-coverage", "class-accuracy"):
        refused = ganzoo("evaluate", "--calibrate", plain, "-e", name)
        assert refused.exit_code == 2
        assert f"Evaluator torch-ganzoo/{name}" in refused.stderr
        assert "needs the class of each image" in refused.stderr
        assert "have no labels: leave it out." in refused.stderr


def test_data_prepare_makes_the_domain_extractor_ready(photographs, cache):
    facts = json.loads(ganzoo("data", "prepare", "digits:size=8", "--json").stdout)
    assert facts["extractor"].startswith("ready, digest ")
    facts = json.loads(ganzoo("data", "prepare", f"image-folder:path={photographs}/plain,size=8", "--json").stdout)
    assert facts["extractor"].startswith("ready, digest ")
    assert "correct" not in facts["extractor"]
    for file in (cache.parent / "domain").iterdir():
        file.unlink()
    labelled = ["data", "prepare", f"image-folder:path={photographs}/classes,size=8", "--json"]
    kept = cache.parent / "domain"
    facts = json.loads(ganzoo(*labelled, "--no-extractor").stdout)
    assert facts["extractor"] == "left out"
    assert not list(kept.iterdir())
    result = ganzoo(*labelled)
    assert result.exit_code == 0, result.output
    assert "Training the domain extractor" in result.stderr
    assert json.loads(result.stdout)["extractor"].startswith("ready, digest ")
    assert len(list(kept.glob("*.safetensors"))) == 1
    assert "Training" not in ganzoo(*labelled).stderr


# --- the document -----------------------------------------------------------------------------------------------------


def reach(score: Score) -> str:
    """The range of a score, as the document writes it."""
    if math.isinf(score.low):
        return "any"
    return f"from {score.low:g}" if math.isinf(score.high) else f"{score.low:g} to {score.high:g}"


def line_of(name: str) -> str:
    """The line of an evaluator in the document's table."""
    evaluator = ZOO.build("evaluators", Choice(name))
    scores = "; ".join(f"`{score}` {facts.better}, {reach(facts)}" for score, facts in evaluator.scores.items())
    cells = [f"`{name}`", f"{evaluator.extractor}, {evaluator.layer}", scores, str(evaluator.minimum), evaluator.cost]
    return f"| {' | '.join(cells)} |"


def test_the_document_describes_every_evaluator():
    text = DOCUMENT.read_text()
    for name in ZOO.names("evaluators"):
        if ZOO.find("evaluators", name).distribution == "torch-ganzoo":
            assert line_of(name) in text, line_of(name)
            assert len(re.findall(rf"^\| `{name}` \|", text, re.MULTILINE)) == 2, "one line in each of the two tables"


def test_the_document_names_every_protocol_and_every_corruption():
    text = DOCUMENT.read_text()
    for name in PROTOCOLS:
        assert f"| `{name}` |" in text
    for corruption in [("none", 0), ("noise", 5), ("blur", 0.5), ("missing classes", 5), ("memorised", 100)]:
        assert f"| {corruptions.corruption_label(*corruption)} |" in text


def test_the_distances_of_the_document_grow_with_every_corruption():
    """The table of fid-domain, which was measured on the original MNIST and Fashion-MNIST."""
    table = re.search(r"\| real images \| MNIST \| Fashion-MNIST \|\n\| --- .*\n((?:\|.*\n)+)", DOCUMENT.read_text())
    assert table is not None
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table[1].splitlines()]
    for column in (1, 2):
        values = {row[0]: float(row[column]) for row in cells}
        for sort in ("noise", "blur", "missing", "repeated", "images of", "uniform"):
            assert rising([values["undamaged"], *(value for name, value in values.items() if sort in name)])
