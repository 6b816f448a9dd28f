"""Speedruns: targets that are reached and missed, records, interrupted runs, bad targets."""

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
from click.testing import Result
from helpers import ZOO, ganzoo

from ganzoo import Amount, Choice, UsageError
from ganzoo.experiments.speedrun import parse_target
from ganzoo.storage.checkpoints import load_latest
from ganzoo.storage.run import Run
from ganzoo.training.train import resume, start

TINY, BRIGHTNESS = f"{tiny.__file__}:Tiny", f"{tiny.__file__}:Brightness"
#: 0.15 is reached by seed 0 after 24 steps and by seed 1 after 36; 0.1 by seed 0 only; 0 by none
BOTH, ONE, NONE = (f"brightness<={value}" for value in ("0.15", "0.1", "0"))
RATES = ["-o", "generator_optimizer.lr=0.005", "-o", "discriminator_optimizer.lr=0.002"]
ARGUMENTS = [
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


def arguments(*more: str | Path) -> list[str]:
    """The command line of a speedrun on small digits."""
    return ["speedrun", *ARGUMENTS, "--device", "cpu", "-q", *map(str, more)]


def speedrun(*more: str | Path) -> Result:
    return ganzoo(*arguments(*more))


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def record_of(folder: Path, target: str) -> dict[str, Any]:
    records = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    (found,) = (record for record in records if record["target"] == target)
    return found  # type: ignore[no-any-return]


def record(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    """A record without its times and its machine."""
    seeds = [{name: value for name, value in seed.items() if "seconds" not in name} for seed in found["seeds"]]
    kept = {name: value for name, value in found.items() if "seconds" not in name and name not in ("time", "machine")}
    return kept | {"seeds": seeds}


def runs(out: Path) -> list[Path]:
    """The run of each seed, in the order of the seeds."""
    return sorted(path.parent for path in out.glob("*/recipe.json"))


def bytes_below(out: Path) -> dict[str, tuple[bytes, int]]:
    """The content and the modification time of every file of the runs."""
    files = [file for run in runs(out) for file in run.rglob("*") if file.is_file()]
    return {str(file.relative_to(out)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def brightness(run: Path) -> list[tuple[int, float]]:
    lines = Run.open(run).lines("scores.jsonl")
    return [(line["step"], line["value"]) for line in lines if line["score"] == "brightness"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A speedrun of two seeds that reach their target: its folder, and the result of the command."""
    out = tmp_path_factory.mktemp("speedrun")
    return out, speedrun("--target", BOTH, "--seeds", "0,1", "--out", out, "--json")


def test_a_run_ends_at_the_first_score_that_meets_the_target(made):
    out, result = made
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["record"]
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
    """They can be sampled, scored, and resumed to their length, like any other run."""
    run = runs(made[0])[0]
    ended = Path(shutil.copytree(run, tmp_path / "ended"))
    assert ganzoo("sample", ended).exit_code == 0
    again = ganzoo("evaluate", ended, "--json")
    assert json.loads(again.stdout)["scores"][0]["value"] == brightness(run)[-1][1]
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
    assert json.loads(speedrun("--target", BOTH, "--seeds", "0,1", "--out", out, "--json").stdout) == json.loads(
        result.stdout
    )
    assert bytes_below(out) == before


def test_another_target_is_read_from_the_same_runs_or_trained_for(made, tmp_path):
    out = Path(shutil.copytree(made[0], tmp_path / "out"))
    before = bytes_below(out)
    easy = json.loads(speedrun("--target", "brightness<=0.2", "--seeds", "0,1", "--out", out, "--json").stdout)[
        "record"
    ]
    assert bytes_below(out) == before
    assert [seed["steps"] for seed in easy["seeds"]] == [2, 18]
    harder = speedrun("--target", ONE, "--seeds", "0", "--out", out, "--json")
    assert harder.exit_code == 0, harder.output
    assert record_of(out, ONE)["seeds"][0]["steps"] == brightness(runs(out)[0])[-1][0] > 24


def test_a_score_without_a_checkpoint_is_computed_again(made, tmp_path):
    """A crash between the score and the checkpoint leaves such a line."""
    out = Path(shutil.copytree(made[0], tmp_path / "out"))
    run = Run.open(runs(out)[0])
    last = [line for line in run.lines("scores.jsonl") if line["score"] == "brightness"][-1]
    run.append("scores.jsonl", {**last, "step": 36, "images": 576, "value": 0.01})
    found = json.loads(speedrun("--target", ONE, "--seeds", "0", "--out", out, "--json").stdout)["record"]
    assert 0.05 < found["seeds"][0]["value"] <= 0.1


def test_a_seed_that_does_not_reach_it_leaves_no_mean(tmp_path):
    result = speedrun("--target", ONE, "--seeds", "0,1", "--out", tmp_path)
    assert result.exit_code == 1
    assert "Seed 1: brightness<=0.1 not reached: 40 steps were not enough; the best was 0.1" in result.stdout
    assert "No mean" in result.stdout
    assert "reached by 1 of 2 seeds" in result.stderr
    found = record(tmp_path)
    assert [seed["reached"] for seed in found["seeds"]] == [True, False]
    assert found["seeds"][1]["steps"] == 40
    assert all(found[name] is None for name in ("training_seconds", "scoring_seconds", "images", "steps"))
    before = bytes_below(tmp_path)
    speedrun("--target", ONE, "--seeds", "0,1", "--out", tmp_path)
    assert bytes_below(tmp_path).keys() == before.keys()
    assert brightness(runs(tmp_path)[1])[-1][0] == 40


def test_a_seed_that_diverges_is_counted_and_stops_no_other(tmp_path):
    recipe = tmp_path / "souring.toml"
    recipe.write_text(f'losses = ["nonsaturating", "{tiny.__file__}:Souring:after=160"]\n')
    out = tmp_path / "out"
    for _ in range(2):
        result = speedrun("--target", NONE, "--seeds", "0,1", "--out", out, "--recipe", recipe, "--json")
        assert result.exit_code == 1
        found = record(out)
        assert found["reached"] == 0
        assert all("the training diverged; the best was 0." in seed["reason"] for seed in found["seeds"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_speedrun_is_resumed(number, made, tmp_path):
    again = ["--target", BOTH, "--seeds", "0,1", "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "ganzoo", *arguments(*again)], stderr=subprocess.PIPE, text=True)
    deadline, scores = time.monotonic() + 300, []
    while len(scores) < 3 and time.monotonic() < deadline:  # in the middle of the first seed
        time.sleep(0.01)
        scores = brightness(runs(tmp_path)[0]) if runs(tmp_path) else []
    process.send_signal(number)
    stderr = process.communicate(timeout=300)[1]
    if number == signal.SIGINT:
        assert process.returncode == 130, stderr
        assert "with 2 of 2 seeds left to run" in stderr
        assert "Continue with the same command" in stderr
    assert not list(tmp_path.glob("*.json"))
    result = speedrun(*again)
    assert result.exit_code == 0, result.output
    assert without_times(record(tmp_path)) == without_times(record(made[0]))
    (seed, _) = record(tmp_path)["seeds"]
    assert seed["training_seconds"] > 0


@pytest.mark.parametrize(
    ("target", "message"),
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
def test_a_bad_target_is_refused_in_a_sentence(target, message, tmp_path):
    with pytest.raises(UsageError) as refused:
        parse_target(target, ZOO)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"--target {target!r}")
    result = ganzoo("speedrun", "digits", "--target", target, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_the_evaluator_is_found_by_its_score():
    target = parse_target(" recall >= 0.25 ", ZOO)
    assert (target.expected.evaluator, target.expected.score, target.value) == ("precision-recall", "recall", 0.25)
    assert [target.met(value) for value in (0.24, 0.25, 0.3)] == [False, True, True]
    with pytest.raises(UsageError, match="kid does not give a score 'recall'"):
        parse_target("recall>=0.25", ZOO, Choice("kid"))


def test_it_runs_in_one_process(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = speedrun("--target", BOTH, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "start it without torchrun" in result.stderr


@pytest.fixture
def records(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("records")


def test_the_table_of_records_is_made_from_their_files(records, made, tmp_path):
    page = records.PAGE.read_text()
    assert records.rewritten(page, records.table()) == page, "run: python benchmarks/records.py"
    speedrun("--target", ONE, "--seeds", "0,1", "--out", tmp_path / "one")
    for folder in (made[0], tmp_path / "one"):
        for file in folder.glob("*.json"):
            shutil.copy(file, tmp_path)
    lines = records.table(tmp_path).splitlines()[2:]
    assert len(lines) == 2
    assert "| - | - | - | - | 1 of 2 |" in lines[0]
    assert "| 2 of 2 |" in lines[1]
    assert f"{record(made[0])['steps']['mean']:,.0f} ± " in lines[1]


def test_the_default_interval_of_scores_and_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_interval = [one for one in arguments("--target", NONE, "--seeds", "3") if one not in ("--score-every", "2")]
    result = ganzoo(*without_interval)
    assert "0 of 1 seed." in result.stderr
    (run,) = runs(tmp_path / "runs" / "speedrun-tiny-digits")
    assert Run.open(run).recipe.score_every == Amount(1, "steps")
    assert Run.open(run).recipe.seed == 3
