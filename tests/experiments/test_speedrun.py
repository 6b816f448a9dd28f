"""How long until a score is good enough: reached or not, over seeds, stopped and gone on with."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner, Result

from ganzoo import Amount, Choice, UsageError
from ganzoo.cli import cli
from ganzoo.experiments.speedrun import parse_target
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.checkpoints import load_latest
from ganzoo.storage.run import Run
from ganzoo.training.train import resume, start

ZOO = Zoo()
TINY, BRIGHTNESS = f"{tiny.__file__}:Tiny", f"{tiny.__file__}:Brightness"
#: seed 0 comes to 0.15 after 24 steps, seed 1 after 36; to 0.1 comes seed 0 alone; to 0 none
BOTH, ONE, NONE = (f"brightness<={value}" for value in ("0.15", "0.1", "0"))
RATES = ["-o", "generator_optimizer.lr=0.005", "-o", "discriminator_optimizer.lr=0.002"]
ASKED = [
    "digits:size=8",
    "-a",
    TINY,
    "-e",
    BRIGHTNESS,
    "--samples",
    "20",
    "--steps",
    "40",
    "--score-every",
    "2",
    *RATES,
]


def words(*more: str | Path) -> list[str]:
    return ["speedrun", *ASKED, "--device", "cpu", "-q", *map(str, more)]


def ganzoo(*more: str | Path) -> Result:
    return CliRunner().invoke(cli, words(*more), prog_name="ganzoo")


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def record_of(folder: Path, target: str) -> dict[str, Any]:
    (found,) = (
        one for one in (json.loads(file.read_text()) for file in folder.glob("*.json")) if one["target"] == target
    )
    return found  # type: ignore[no-any-return]


def record(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    """All of a record that does not depend on when and where it was made."""
    seeds = [{name: value for name, value in seed.items() if "seconds" not in name} for seed in found["seeds"]]
    kept = {name: value for name, value in found.items() if "seconds" not in name and name not in ("time", "machine")}
    return kept | {"seeds": seeds}


def runs(out: Path) -> list[Path]:
    """Of each seed, in their order."""
    return sorted(path.parent for path in out.glob("*/recipe.json"))


def bytes_below(out: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of the runs, and when it was written."""
    files = [file for run in runs(out) for file in run.rglob("*") if file.is_file()]
    return {str(file.relative_to(out)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def brightness(run: Path) -> list[tuple[int, float]]:
    lines = Run.open(run).lines("scores.jsonl")
    return [(line["step"], line["value"]) for line in lines if line["score"] == "brightness"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Two seeds that reach their target."""
    out = tmp_path_factory.mktemp("speedrun")
    return out, ganzoo("--target", BOTH, "--seeds", "0,1", "--out", out, "--json")


def test_a_run_ends_at_the_first_score_that_meets_the_target(made):
    out, result = made
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == record(out)
    assert found["reached"] == 2
    for seed, run in zip(found["seeds"], runs(out), strict=True):
        (*before, (step, last)) = brightness(run)
        assert all(value > 0.15 for _, value in before)
        assert last <= 0.15
        assert [step for step, _ in before] == list(range(2, step, 2))
        assert (seed["value"], seed["steps"], seed["images"]) == (last, step, 16 * step)
        assert seed["run"] == run.name
        assert Run.open(run).lines("stats.jsonl")[-1]["step"] == step == load_latest(run / "checkpoints").meta["step"]
        assert seed["training_seconds"] > 0 < seed["scoring_seconds"]


def test_the_record_says_how_it_was_made(made):
    found = record(made[0])
    for name in ("training_seconds", "scoring_seconds", "images", "steps"):
        values = [seed[name] for seed in found["seeds"]]
        assert found[name]["values"] == values
        assert found[name]["mean"] == pytest.approx(sum(values) / 2)
        assert found[name]["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert found["target"] == BOTH
    assert found["machine"]["versions"].keys() >= {"torch", "torch-ganzoo", "python"}
    assert found["machine"]["device_name"]
    assert found["card"]["measure"]["fakes"] == 20
    assert len(found["card"]["digest"]) == len(found["recipe_digest"]) == 16
    assert "seed" not in found["recipe"]


def test_its_runs_are_ordinary_runs(made, tmp_path):
    """They are sampled, scored, and played on to their length, as if nothing had been."""
    run = runs(made[0])[0]
    ended = Path(shutil.copytree(run, tmp_path / "ended"))
    assert CliRunner().invoke(cli, ["sample", str(ended)]).exit_code == 0
    again = CliRunner().invoke(cli, ["evaluate", str(ended), "--json"])
    assert json.loads(again.stdout)[0]["value"] == brightness(run)[-1][1]
    resume(ended, ZOO, note=lambda text: None)
    start(Run.open(run).recipe, tmp_path / "whole", ZOO, torch.device("cpu"), note=lambda text: None)
    states = [load_latest(folder / "checkpoints") for folder in (ended, tmp_path / "whole")]
    assert states[0].meta["step"] == states[1].meta["step"] == 40
    assert all(torch.equal(value, states[1].tensors[name]) for name, value in states[0].tensors.items())
    names = [sorted(path.name for path in (folder / "samples").iterdir()) for folder in (ended, tmp_path / "whole")]
    assert names[0] == names[1]


def test_the_same_command_again_trains_nothing(made):
    out, result = made
    before = bytes_below(out)
    assert json.loads(ganzoo("--target", BOTH, "--seeds", "0,1", "--out", out, "--json").stdout) == json.loads(
        result.stdout
    )
    assert bytes_below(out) == before


def test_another_target_is_read_from_the_same_runs_or_played_for(made, tmp_path):
    out = Path(shutil.copytree(made[0], tmp_path / "out"))
    before = bytes_below(out)
    easy = json.loads(ganzoo("--target", "brightness<=0.2", "--seeds", "0,1", "--out", out, "--json").stdout)
    assert bytes_below(out) == before
    assert [seed["steps"] for seed in easy["seeds"]] == [2, 18]
    harder = ganzoo("--target", ONE, "--seeds", "0", "--out", out, "--json")
    assert harder.exit_code == 0, harder.output
    assert record_of(out, ONE)["seeds"][0]["steps"] == brightness(runs(out)[0])[-1][0] > 24


def test_a_score_without_a_checkpoint_behind_it_is_made_again(made, tmp_path):
    """As a crash leaves it that comes between the two."""
    out = Path(shutil.copytree(made[0], tmp_path / "out"))
    run = Run.open(runs(out)[0])
    last = [line for line in run.lines("scores.jsonl") if line["score"] == "brightness"][-1]
    run.append("scores.jsonl", {**last, "step": 36, "images": 576, "value": 0.01})
    found = json.loads(ganzoo("--target", ONE, "--seeds", "0", "--out", out, "--json").stdout)
    assert 0.05 < found["seeds"][0]["value"] <= 0.1


def test_a_seed_that_does_not_reach_it_leaves_no_mean(tmp_path):
    result = ganzoo("--target", ONE, "--seeds", "0,1", "--out", tmp_path)
    assert result.exit_code == 1
    assert "Seed 1: brightness<=0.1 not reached: 40 steps were not enough; the best was 0.1" in result.stdout
    assert "No mean" in result.stdout
    assert "reached by 1 of 2 seeds" in result.stderr
    found = record(tmp_path)
    assert [seed["reached"] for seed in found["seeds"]] == [True, False]
    assert found["seeds"][1]["steps"] == 40
    assert all(found[name] is None for name in ("training_seconds", "scoring_seconds", "images", "steps"))
    before = bytes_below(tmp_path)
    ganzoo("--target", ONE, "--seeds", "0,1", "--out", tmp_path)
    assert bytes_below(tmp_path).keys() == before.keys()
    assert brightness(runs(tmp_path)[1])[-1][0] == 40


def test_a_seed_that_diverges_is_counted_and_stops_no_other(tmp_path):
    recipe = tmp_path / "souring.toml"
    recipe.write_text(f'losses = ["nonsaturating", "{tiny.__file__}:Souring:after=160"]\n')
    out = tmp_path / "out"
    for _ in range(2):
        result = ganzoo("--target", NONE, "--seeds", "0,1", "--out", out, "--recipe", recipe, "--json")
        assert result.exit_code == 1
        found = record(out)
        assert found["reached"] == 0
        assert all("the training diverged; the best was 0." in seed["reason"] for seed in found["seeds"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_was_interrupted_goes_on(number, made, tmp_path):
    again = ["--target", BOTH, "--seeds", "0,1", "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "ganzoo", *words(*again)], stderr=subprocess.PIPE, text=True)
    until, scores = time.monotonic() + 300, []
    while len(scores) < 3 and time.monotonic() < until:  # in the middle of the first seed
        time.sleep(0.01)
        scores = brightness(runs(tmp_path)[0]) if runs(tmp_path) else []
    process.send_signal(number)
    said = process.communicate(timeout=300)[1]
    if number == signal.SIGINT:
        assert process.returncode == 130, said
        assert "with 2 of 2 seeds left to run" in said
        assert "Continue with the same command" in said
    assert not list(tmp_path.glob("*.json"))
    result = ganzoo(*again)
    assert result.exit_code == 0, result.output
    assert timeless(record(tmp_path)) == timeless(record(made[0]))
    (seed, _) = record(tmp_path)["seeds"]
    assert seed["training_seconds"] > 0


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("fid-domain", "is not written SCORE<=NUMBER or SCORE>=NUMBER"),
        ("fid-domain=30", "is not written SCORE<=NUMBER"),
        ("fid-domain<=", "is not written SCORE<=NUMBER"),
        ("fid-domain<=low", "'low' is no number; write for example fid-domain<=30"),
        ("fid-domain<=nan", "'nan' is no number"),
        ("fid-domian<=30", "no evaluator gives a score 'fid-domian'. Did you mean 'fid-domain'"),
        ("fid-domain>=30", "of fid-domain, lower is better; write fid-domain<=30"),
        ("recall<=0.3", "of recall, higher is better; write recall>=0.3"),
        ("recall>=1.5", "recall lies between 0 and 1"),
    ],
)
def test_a_target_nobody_could_mean_is_refused_in_a_sentence(target, words, tmp_path):
    with pytest.raises(UsageError) as refused:
        parse_target(target, ZOO)
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"--target {target!r}")
    result = CliRunner().invoke(cli, ["speedrun", "digits", "--target", target, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_the_evaluator_is_found_by_its_score():
    target = parse_target(" recall >= 0.25 ", ZOO)
    assert (target.expected.evaluator, target.expected.score, target.value) == ("precision-recall", "recall", 0.25)
    assert [target.met(value) for value in (0.24, 0.25, 0.3)] == [False, True, True]
    with pytest.raises(UsageError, match="kid does not give a score 'recall'"):
        parse_target("recall>=0.25", ZOO, Choice("kid"))


def test_it_is_played_by_one_process(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = ganzoo("--target", BOTH, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "start it without torchrun" in result.stderr


@pytest.fixture
def records(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("records")


def test_the_table_of_records_is_made_from_their_files(records, made, tmp_path):
    page = records.PAGE.read_text()
    assert records.rewritten(page, records.table()) == page, "run: python benchmarks/records.py"
    ganzoo("--target", ONE, "--seeds", "0,1", "--out", tmp_path / "one")
    for folder in (made[0], tmp_path / "one"):
        for file in folder.glob("*.json"):
            shutil.copy(file, tmp_path)
    lines = records.table(tmp_path).splitlines()[2:]
    assert len(lines) == 2
    assert "| - | - | - | - | 1 of 2 |" in lines[0]
    assert "| 2 of 2 |" in lines[1]
    assert f"{record(made[0])['steps']['mean']:,.0f} ± " in lines[1]


def test_scores_are_as_many_as_asked_for_and_the_folder_follows_from_the_question(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    often = [word for word in words("--target", NONE, "--seeds", "3") if word not in ("--score-every", "2")]
    result = CliRunner().invoke(cli, often)
    assert "0 of 1 seeds" in result.stderr
    (run,) = runs(tmp_path / "runs" / "speedrun-tiny-digits")
    assert Run.open(run).recipe.score_every == Amount(1, "steps")
    assert Run.open(run).recipe.seed == 3
