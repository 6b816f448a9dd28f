"""A search: its space, what it proposes, pruning, failures, a driver that is killed, and the second scoring."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tiny
from helpers import ZOO, ganzoo

import ganzoo as package
from ganzoo import GanzooError, Recipe, UsageError
from ganzoo.experiments.search_space import parse_space
from ganzoo.experiments.study import parse_study
from ganzoo.experiments.tune import request_of

pytest.importorskip("optuna", reason="the extra [tune] is not installed")

TINY, BRIGHTNESS = f"{tiny.__file__}:Tiny", f"{tiny.__file__}:Brightness"
STUDY: dict[str, Any] = {
    "architecture": TINY,
    "dataset": "digits:size=8",
    "evaluators": [BRIGHTNESS],
    "steps": 4,
    "samples": 20,
    "space": {
        "generator_optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "batch_size": {"low": 8, "high": 32, "step": 8},
        "loss": ["nonsaturating", "hinge"],
    },
}
TOML = f"""
architecture = {json.dumps(TINY)}
dataset = "digits:size=8"
evaluators = [{json.dumps(BRIGHTNESS)}]
steps = 4
samples = 20
check_seeds = [5]

[space]
generator_optimizer.lr = {{low = 1e-4, high = 1e-1, log = true}}
batch_size = {{low = 8, high = 32, step = 8}}
loss = ["nonsaturating", "hinge"]
"""


def refusal(**more: Any) -> str:
    with pytest.raises(UsageError) as caught:
        request_of(ZOO, parse_study({**STUDY, **more}), 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_space_of_a_study() -> None:
    lr, batch, loss = parse_space(parse_study(STUDY).space)
    assert (lr.axis, lr.log, lr.whole, batch.whole, batch.step) == ("generator_optimizer.lr", True, False, True, 8)
    assert lr.value(0.00123456).value == 0.001235
    assert [value.text for value in loss.choices] == ["nonsaturating", "hinge"]
    assert (batch.proposed(16), batch.proposed(17), batch.proposed(64), loss.proposed("hinge")) == (
        16,
        None,
        None,
        "hinge",
    )
    request = request_of(ZOO, parse_study(STUDY), 0)
    assert (request.objective.score, request.objective.better, request.check_seeds) == (
        "brightness",
        "lower",
        (1, 2, 3),
    )


def test_what_is_wrong_with_a_search_is_said_before_a_trial() -> None:
    assert "has no [space]" in refusal(space={})
    assert "Did you mean 'batch_size'" in refusal(space={"batch_sise": [1, 2]})
    assert "must be below high" in refusal(space={"batch_size": {"low": 4, "high": 4}})
    assert "begins above 0" in refusal(space={"generator_optimizer.lr": {"low": 0, "high": 1, "log": True}})
    assert "has no key 'hihg'. Did you mean 'high'?" in refusal(space={"batch_size": {"low": 4, "hihg": 4}})
    assert "two different choices" in refusal(space={"loss": ["hinge"]})
    assert "list of choices or a range" in refusal(space={"batch_size": 4})
    assert "Did you mean 'lr'" in refusal(space={"generator_optimizer.lrr": [1e-3, 1e-4]})
    assert "cannot search the seed" in refusal(space={"seed": [1, 2]})
    assert "keep one of the two" in refusal(batch_size=8)
    assert "trains every trial with one seed" in refusal(seeds=[0, 1])
    assert "the seed that the search trains with" in refusal(seed=5, check_seeds=[5, 6])
    assert "no axes" in refusal(axes={"batch_size": [1, 2]})
    assert "one architecture and one dataset" in refusal(architecture=[TINY, f"{TINY}:width=4"])


def test_without_optuna_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(GanzooError, match=r"pip install 'torch-ganzoo\[tune\]'"):
        package.tune(STUDY, 1, out=tmp_path)


def outcome(out: Path) -> list[tuple[Any, ...]]:
    """What a search found, without the numbers of its runs."""
    trials = json.loads((out / "tune.json").read_text())["trials"]
    return [(one["state"], one["value"], *one["params"].values()) for one in trials]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search of three trials."""
    out = tmp_path_factory.mktemp("search é") / "tune"
    (out.parent / "study.toml").write_text(TOML)
    result = ganzoo("tune", out.parent / "study.toml", "--trials", "3", "-o", out, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["row"] for row in found["rows"] if row["score"] == "brightness"] in (["default", "tuned"], [])
    assert found["best"] in found["trials"]
    return out


def test_the_winner_is_a_recipe(searched: Path) -> None:
    best = min((one for one in outcome(searched) if one[0] == "finished"), key=lambda one: one[1])
    assert outcome(searched)[0][3:] == (16, "nonsaturating")  # the default recipe comes first
    recipe = Recipe.from_dict(tomllib.loads((searched / "winner.toml").read_text()))
    assert (recipe.generator_optimizer.options["lr"], recipe.batch_size, recipe.losses[0].name) == best[2:]
    again = ganzoo("train", TINY, "digits:size=8", "--recipe", searched / "winner.toml", "--dry-run", "--json")
    assert json.loads(again.stdout)["recipe"]["batch_size"] == best[3]
    assert len(list(searched.glob("runs/*"))) == 3


def test_a_search_goes_on_and_another_one_is_refused(searched: Path) -> None:
    study, before = searched.parent / "study.toml", outcome(searched)
    written = {path: path.stat().st_mtime_ns for path in searched.glob("runs/*/stats.jsonl")}
    result = ganzoo("tune", study, "--trials", "3", "-o", searched, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert outcome(searched) == before
    assert {path: path.stat().st_mtime_ns for path in written} == written
    refused = ganzoo("tune", study, "--trials", "3", "-o", searched, "--seed", "1")
    assert refused.exit_code == 2
    assert "holds a search with another seed" in refused.output


def test_a_driver_that_is_killed_goes_on_with_what_an_undisturbed_search_finds(searched: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "ganzoo", "tune", str(searched.parent / "study.toml"), "--trials", "3"]
    command += ["-o", str(out), "--device", "cpu"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/recipe.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    result = ganzoo("tune", searched.parent / "study.toml", "--trials", "3", "-o", out, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert outcome(out) == outcome(searched)


@pytest.mark.slow
def test_twenty_trials_find_a_better_recipe_than_the_default(tmp_path: Path) -> None:
    """On digits, by a score on other seeds than it was tuned on."""
    found = package.tune(Path(__file__).parents[2] / "examples" / "tune.toml", 20, out=tmp_path / "tune", jobs=2)
    means = {row["row"]: row["mean"] for row in found.check}
    assert means["tuned"] < means["default"]
