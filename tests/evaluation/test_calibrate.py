"""Calibration: known damage in known steps, what is known is not measured again, and wrong requests in one sentence."""

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
from click.testing import CliRunner
from PIL import Image

from ganzoo import Choice, Score
from ganzoo.cli import cli
from ganzoo.contract.protocol import PROTOCOLS, Protocol
from ganzoo.evaluation import calibrate, corruptions
from ganzoo.evaluation.scorer import Scorer
from ganzoo.registry.zoo import Zoo
from ganzoo.results.report import calibration_plot

CPU = torch.device("cpu")
ZOO = Zoo()
DEFAULT = Protocol.named("default")
DIGITS = Choice("digits", {"size": 8})
BRIGHTNESS = f"{tiny.__file__}:Brightness"
DARKNESS = f"{tiny.__file__}:Darkness"
DOCUMENT = Path(__file__).parents[2] / "docs" / "evaluation.md"


def measured(*evaluators: str, dataset: Choice = DIGITS, **more: Any) -> list[calibrate.Row]:
    protocol = more.pop("protocol", DEFAULT)
    return calibrate.calibrate(ZOO, dataset, [Choice.parse(name) for name in evaluators], CPU, protocol, **more)


def of(rows: list[calibrate.Row], damage: str, score: str) -> list[float]:
    """The values of a score under a damage, as it gets worse; the undamaged first."""
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


# --- the scale --------------------------------------------------------------------------------------------------------


def test_a_scale_has_a_row_for_each_condition_and_score(rows):
    conditions = list(dict.fromkeys((row["damage"], row["strength"]) for row in rows))
    assert conditions == [
        ("none", 0),
        *(("noise", sd) for sd in (5, 10, 20, 40)),
        *(("blur", sd) for sd in (0.5, 1, 2)),
        *(("missing classes", count) for count in (1, 3, 5)),
        ("memorised", 100),
        ("uniform noise", 255),
    ]
    assert len(rows) == len(conditions) * (1 + 3 + 6)
    assert {row["images"] for row in rows if row["damage"] != "missing classes"} == {299}
    assert {row["better"] for row in rows if row["score"] == "fid-domain"} == {"lower"}
    # other numbers of fakes are not to be compared
    digests = {row["images"]: row["digest"] for row in rows if row["score"] == "fid-domain"}
    assert len(set(digests.values())) == len(digests) == 4


@pytest.mark.parametrize("damage", ["noise", "blur", "missing classes", "memorised", "uniform noise"])
def test_the_domain_distance_grows_with_every_damage(rows, damage):
    assert rising(of(rows, damage, "fid-domain"))


def test_what_an_evaluator_is_for_it_sees(rows):
    assert rising(of(rows, "missing classes", "modes-kl"))
    assert rising([-modes for modes in of(rows, "missing classes", "modes")])
    assert of(rows, "memorised", "exact-copies") == [0, 1]
    assert of(rows, "memorised", "copies")[1] == 1
    ideal, copied = of(rows, "memorised", "authenticity")
    assert (ideal > 0.5, copied) == (True, 0)
    # the undamaged images are the held-out ones
    assert of(rows, "memorised", "distance-gap")[0] == 0


def test_the_floor_is_what_a_scorer_says_of_the_real_images(rows):
    scorer = Scorer(ZOO, Choice("digits"), [Choice("fid-domain")], CPU, DEFAULT)
    images, labels = ZOO.build("datasets", Choice("digits"), split="test").read(torch.arange(299))
    (line,) = scorer.score([(images, labels)], {})
    floor = calibrate.real_baseline(ZOO, Choice("digits"), [Choice("fid-domain")], CPU, DEFAULT, 10_000)
    assert floor == {"fid-domain": line["value"]}
    undamaged = next(row for row in rows if row["score"] == "fid-domain")
    assert (undamaged["value"], undamaged["digest"]) == (line["value"], line["card"]["digest"])


def test_the_reals_of_the_protocol_are_never_the_fakes():
    test_reals = measured(BRIGHTNESS, protocol=Protocol.named("lucic2018"))
    counts = {row["score"]: row["value"] for row in test_reals if row["damage"] == "none"}
    assert (counts["reals"], counts["fakes"]) == (299, 1498)
    assert calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT)["fakes"] == 299
    fewer = calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 120)
    assert (fewer["reals"], fewer["fakes"]) == (1498, 120)


# --- the damages ------------------------------------------------------------------------------------------------------


def test_noise_is_as_strong_as_it_says_and_the_same_every_time():
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


def test_a_blurred_point_is_a_gaussian_and_what_is_even_stays_even():
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
    everything = calibrate.Calibration(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, None)
    for condition in calibrate._conditions(ZOO, DIGITS, everything, None):
        seen = torch.cat([labels for _, labels in condition.batches()]).unique().tolist()
        gone = int(condition.strength) if condition.damage == "missing classes" else 0
        assert seen == list(range(gone, 10))


def test_memorised_images_are_training_images():
    found = calibrate.Calibration(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, None)
    (condition,) = [c for c in calibrate._conditions(ZOO, DIGITS, found, None) if c.damage == "memorised"]
    train, _ = ZOO.build("datasets", DIGITS, split="train").read(torch.arange(1498))
    known = {image.numpy().tobytes() for image in train}
    seen = [image.numpy().tobytes() for images, _ in condition.batches() for image in images]
    assert len(seen) == 299
    assert len(set(seen)) == 100
    assert set(seen) <= known


def test_another_dataset_takes_part_if_it_is_named():
    found = measured(BRIGHTNESS, other=Choice("digits", {"size": 8}), samples=100)
    assert [row["strength"] for row in found if row["damage"] == "other dataset"] == ["digits:size=8"] * 3


# --- what is known ----------------------------------------------------------------------------------------------------


def test_what_is_known_is_not_measured_again(cache):
    first = measured(BRIGHTNESS, samples=200)
    conditions = len({(row["damage"], row["strength"]) for row in first})
    assert len(list(cache.iterdir())) == conditions
    before = passes()
    assert measured(BRIGHTNESS, samples=200) == first
    assert (
        calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 200)["brightness"] == first[0]["value"]
    )
    assert passes() == before
    # a second evaluator is measured, the first one is not again
    both = measured(BRIGHTNESS, DARKNESS, samples=200)
    assert [row for row in both if not row["score"].endswith("again")] == first
    assert passes() - before == conditions + 3  # three batches of reals
    assert len(list(cache.iterdir())) == 2 * conditions


@pytest.mark.parametrize("spoil", ["cut", "value", "facts", "nothing", "list"])
def test_a_damaged_or_foreign_entry_is_measured_again(cache, spoil):
    floor = calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150)
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
    assert calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150) == floor
    assert passes() == before + 1  # the reals are known from the statistics
    assert file.read_text() == whole


def test_other_versions_and_other_numbers_are_measured_anew(cache, monkeypatch):
    calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150)
    before = passes()
    calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 151)
    assert passes() == before + 1
    monkeypatch.setattr(calibrate, "versions", lambda: {"torch": "another"})
    calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150)
    assert passes() == before + 2


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file"))
    assert calibrate.real_baseline(ZOO, DIGITS, [Choice(BRIGHTNESS)], CPU, DEFAULT, 150)["fakes"] == 150


# --- the command ------------------------------------------------------------------------------------------------------


def ganzoo(*arguments: str | Path):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="ganzoo")


def test_the_command_prints_a_table_and_draws_it(tmp_path):
    picture = tmp_path / "scale.png"
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
    assert len(json.loads(result.stdout)) == 13 * 3
    drawn = re.search(r"picture of it: (.+)", result.stderr)
    assert drawn is not None
    assert Path(drawn[1]).read_bytes() == picture.read_bytes()


def test_the_picture_takes_all_kinds_of_values(rows):
    odd = [{**row, "value": 0.0 if row["damage"] == "none" else row["value"]} for row in rows]
    for some in (rows, odd, rows[:1]):
        assert calibration_plot.png(some, "title").startswith(b"\x89PNG")


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


def test_what_belongs_to_a_calibration_is_refused_without_one():
    assert "--other and -o belong to --calibrate" in ganzoo("evaluate", "-o", "x.png").stderr
    assert "leave RUN and --at out" in ganzoo("evaluate", "runs/a", "--calibrate", "digits").stderr
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


def test_a_dataset_without_labels_has_no_domain_scores(photographs):
    result = ganzoo("evaluate", "--calibrate", f"image-folder:path={photographs}/plain,size=8")
    assert result.exit_code == 1
    assert "learns from labels" in result.stderr
    assert "use sliced-wasserstein" in result.stderr


def test_data_prepare_makes_the_domain_extractor_ready(photographs, cache):
    facts = json.loads(ganzoo("data", "prepare", "digits:size=8", "--json").stdout)
    assert [row["domain extractor"][:14] for row in facts] == ["ready, digest "] * 2
    facts = json.loads(ganzoo("data", "prepare", f"image-folder:path={photographs}/plain,size=8", "--json").stdout)
    assert facts[0]["domain extractor"] == "none: domain scores need labels"
    labelled = ["data", "prepare", f"image-folder:path={photographs}/classes,size=8", "--json"]
    kept = cache.parent / "domain"
    facts = json.loads(ganzoo(*labelled, "--no-extractor").stdout)
    assert facts[0]["domain extractor"] == "left out"
    assert not kept.exists()
    result = ganzoo(*labelled)
    assert result.exit_code == 0, result.output
    assert "Training the domain extractor" in result.stderr
    assert json.loads(result.stdout)[0]["domain extractor"].startswith("ready, digest ")
    assert len(list(kept.glob("*.safetensors"))) == 1
    assert "Training" not in ganzoo(*labelled).stderr


# --- the document -----------------------------------------------------------------------------------------------------


def reach(score: Score) -> str:
    """The bounds of a score in the words of the document."""
    if math.isinf(score.low):
        return "any"
    return f"from {score.low:g}" if math.isinf(score.high) else f"{score.low:g} to {score.high:g}"


def line_of(name: str) -> str:
    """What the document's table says of an evaluator."""
    evaluator = ZOO.build("evaluators", Choice(name))
    scores = "; ".join(f"`{score}` {facts.better}, {reach(facts)}" for score, facts in evaluator.scores.items())
    cells = [f"`{name}`", f"{evaluator.extractor}, {evaluator.layer}", scores, str(evaluator.minimum), evaluator.cost]
    return f"| {' | '.join(cells)} |"


def test_the_document_says_of_every_evaluator_what_it_is():
    text = DOCUMENT.read_text()
    for name in ZOO.names("evaluators"):
        if ZOO.find("evaluators", name).distribution == "torch-ganzoo":
            assert line_of(name) in text, line_of(name)
            assert len(re.findall(rf"^\| `{name}` \|", text, re.MULTILINE)) == 2, "what it is, and what it sees"


def test_the_document_names_every_protocol_and_every_damage():
    text = DOCUMENT.read_text()
    for name in PROTOCOLS:
        assert f"| `{name}` |" in text
    for condition in [("none", 0), ("noise", 5), ("blur", 0.5), ("missing classes", 5), ("memorised", 100)]:
        assert f"| {corruptions.corruption_label(*condition)} |" in text


def test_the_scales_of_the_document_grow_with_every_damage():
    """The document's table of fid-domain, as it was measured on the real archives."""
    table = re.search(r"\| real images \| MNIST \| Fashion-MNIST \|\n\| --- .*\n((?:\|.*\n)+)", DOCUMENT.read_text())
    assert table is not None
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table[1].splitlines()]
    for column in (1, 2):
        values = {row[0]: float(row[column]) for row in cells}
        for sort in ("noise", "blur", "missing", "repeated", "images of", "uniform"):
            assert rising([values["undamaged"], *(value for name, value in values.items() if sort in name)])
