"""A study: its file, axes, named rows, exclusions, and what is wrong in them; its table and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from helpers import ZOO, ganzoo, plan_trials

import ganzoo as package
from ganzoo import Choice, UsageError
from ganzoo.api.studies import study_of
from ganzoo.experiments.grid import Trial, named_as_in, plan_study
from ganzoo.experiments.study import parse_study, read_study

TINY, BRIGHTNESS = f"{tiny.__file__}:Tiny", f"{tiny.__file__}:Brightness"
BASE = {
    "architectures": [TINY],
    "datasets": ["digits:size=8"],
    "evaluators": [BRIGHTNESS],
    "seeds": [0],
    "steps": 4,
    "samples": 20,
}
STUDY = """
architectures = ["TINY"]
datasets = ["digits:size=8"]
evaluators = ["BRIGHTNESS"]
seeds = "0..1"
steps = 4
samples = 20

[axes]
loss = ["nonsaturating", "hinge", "wasserstein + gradient-penalty:weight=5"]
generator_optimizer.lr = [1e-4, 2e-4]

[[rows]]
name = "plain"

[[rows]]
name = "large batch"
batch_size = 32
generator_optimizer.lr = 1e-3

[[exclude]]
loss = "hinge"
generator_optimizer.lr = 0.0002
""".replace("TINY", TINY).replace("BRIGHTNESS", BRIGHTNESS)


def trials(**more: Any) -> list[Trial]:
    return plan_study(ZOO, parse_study({**BASE, **more}))


def refusal(**more: Any) -> str:
    with pytest.raises(UsageError) as caught:
        trials(**more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_gives_every_combination_of_rows_and_axes_less_the_exclusions(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    found = plan_study(ZOO, read_study(tmp_path / "study.toml"))
    assert len(found) == 2 * (3 * 2 - 1 + 3)
    of_seed = [(t.row, t.axes["loss"], t.axes["generator_optimizer.lr"], t.axes["batch_size"]) for t in found[:8]]
    assert of_seed == [
        ("plain", "nonsaturating", 1e-4, 16),
        ("plain", "nonsaturating", 2e-4, 16),
        ("plain", "hinge", 1e-4, 16),
        ("plain", "wasserstein + gradient-penalty:weight=5", 1e-4, 16),
        ("plain", "wasserstein + gradient-penalty:weight=5", 2e-4, 16),
        ("large batch", "nonsaturating", 1e-3, 32),
        ("large batch", "hinge", 1e-3, 32),
        ("large batch", "wasserstein + gradient-penalty:weight=5", 1e-3, 32),
    ]
    recipe = found[3].recipe
    assert [part.name for part in recipe.losses] == ["wasserstein", "gradient-penalty"]
    assert recipe.losses[1].options["weight"] == 5
    assert recipe.generator_optimizer.options["lr"] == 1e-4
    assert found[7].recipe.batch_size == 32
    assert len({trial.name for trial in found}) == len(found)
    assert found[7].name.startswith("tiny-digits-large-batch-wasserstein-gradient-penalty-weight5-seed0-")


def test_everything_in_a_recipe_can_be_an_axis() -> None:
    axes = {
        "architecture.width": [4, 8],
        "dataset.size": [8, 10],
        "penalty": ["none", "r1:gamma=1"],
        "augmentation": ["none", "diffaugment"],
        "batch_order": ["stream", "epochs"],
        "ema_half_life": [0, 100],
    }
    found = trials(axes=axes)
    assert len(found) == 2**6
    assert {trial.dataset for trial in found} == {"digits:size=8", "digits:size=10"}
    assert found[-1].axes == {
        "architecture.width": 8, "dataset.size": 10, "penalty": "r1:gamma=1", "augmentation": "diffaugment",
        "batch_order": "epochs", "ema_half_life": 100,
    }  # fmt: skip
    assert [part.name for part in found[-1].recipe.losses] == ["nonsaturating", "r1"]
    (small, large) = trials(axes={"steps": [2, 3]}, steps=None)
    assert (str(small.recipe.length), str(large.recipe.length)) == ("2 steps", "3 steps")
    weights = trials(loss="nonsaturating + r1", axes={"loss.gamma": [1, 2]})
    assert [trial.recipe.losses[1].options["gamma"] for trial in weights] == [1, 2]


def test_a_row_may_name_its_architecture() -> None:
    rows = {"wide": {"architecture": f"{TINY}:width=8"}, "narrow": {"architecture": f"{TINY}:width=4"}}
    assert [trial.row for trial in trials(architectures=None, rows=rows)] == ["wide", "narrow"]


def test_what_is_wrong_is_said_in_one_sentence_with_the_nearest_name() -> None:
    assert "Did you mean 'batch_size'" in refusal(axes={"batch_sise": [1]})
    assert "Did you mean 'generator_optimizer'" in refusal(axes={"generator_optimiser.lr": [1]})
    assert "axis batch_size is empty" in refusal(axes={"batch_size": []})
    assert "Did you mean 'width'?" in refusal(axes={"architecture.widht": [4]})
    assert "has no option 'lrr'" in refusal(axes={"generator_optimizer.lrr": [4]})
    assert "has the value 32 twice" in refusal(axes={"batch_size": [32, 32]})
    assert "whole numbers, not 'many'" in refusal(axes={"batch_size": ["many"]})
    assert "does not change what is trained" in refusal(axes={"score_every": ["1 step"]})
    assert "under two of its names" in refusal(axes={"loss": ["hinge"], "losses": ["hinge"]})
    assert "several values are an axis" in refusal(batch_size=[32, 64])
    assert "keep one of the two" in refusal(batch_size=32, axes={"batch_size": [32, 64]})
    assert "Two rows are called 'a'" in refusal(rows=[{"name": "a"}, {"name": "a", "batch_size": 3}])
    assert "needs a name" in refusal(rows=[{"batch_size": 3}])
    assert "are the same training" in refusal(rows={"a": {}, "b": {"batch_size": 16}})
    assert "has no key 'arcitectures'" in refusal(arcitectures=["x"])
    assert "There is no loss 'hing'" in refusal(axes={"loss": ["hing", "hinge"]})
    assert "both set the length" in refusal(axes={"epochs": [1, 2]})
    assert "among its losses already" in refusal(loss="nonsaturating + r1", axes={"penalty": ["r1", "none"]})
    assert "no part of the losses (nonsaturating) has an option 'gamma'" in refusal(axes={"loss.gamma": [1, 2]})


def test_an_exclusion_that_excludes_nothing_is_refused() -> None:
    axes = {"loss": ["hinge", "nonsaturating"], "batch_size": [8, 16]}
    assert "Did you mean 'hinge'" in refusal(axes=axes, exclude=[{"loss": "hing"}])
    both = [{"loss": "hinge", "batch_size": 8}, {"loss": "hinge", "batch_size": 8, "seed": 0}]
    assert len(trials(axes=axes, exclude=both)) == 3
    assert "batch_size is one of: 8, 16" in refusal(axes=axes, exclude=[{"batch_size": 9}])
    assert "does not vary here" in refusal(axes=axes, exclude=[{"precision": "bf16"}])
    assert "leave no trial" in refusal(axes=axes, exclude=[{"seed": 0}])
    assert "Did you mean 'loss'" in refusal(axes=axes, exclude=[{"los": "hinge"}])
    assert len(trials(axes=axes, exclude=[{"loss": "hin*", "batch_size": [8, 16]}])) == 2


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text("[rows.a]\n[rows.a]\n")
    with pytest.raises(UsageError, match="is not a study in TOML"):
        read_study(path)
    path.write_text("[axes]\nbatch_sise = [1]\n")
    with pytest.raises(UsageError, match=r"study\.toml: There is no axis 'batch_sise'"):
        read_study(path)
    with pytest.raises(UsageError, match="There is no study file"):
        study_of(tmp_path / "none.toml", {})


def test_names_without_axes_stay_and_an_axis_that_is_added_trains_nothing_again(tmp_path: Path) -> None:
    parts = [Choice.parse(TINY)], [Choice.parse("digits:size=8")], [Choice.parse(BRIGHTNESS)]
    (old,) = plan_trials(ZOO, *parts, [0], None, {"length": "4 steps", "score_samples": 20})
    (same,) = trials()
    assert same.name == old.name
    (tmp_path / "cells" / old.name).mkdir(parents=True)
    found = named_as_in(trials(axes={"batch_size": [16, 32]}), tmp_path)
    assert [trial.name == old.name for trial in found] == [True, False]


def test_flags_are_the_same_as_a_file(tmp_path: Path) -> None:
    common = ["-a", TINY, "-d", "digits:size=8", "-e", BRIGHTNESS, "--seeds", "0", "--steps", "4", "--samples", "20"]
    flags = ["--loss", "hinge", "--loss", "wasserstein+r1", "--batch-size", "8,16", "--batch-size", "32"]
    more = ["--set", "generator_optimizer.lr=1e-4,2e-4", "--set", "precision=fp32", "--set", "turns=D,D,G"]
    result = ganzoo("benchmark", *common, *flags, *more, "--dry-run", "--json", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    pairs = json.loads(result.stdout)["pairs"]
    assert len(pairs) == 2 * 3 * 2
    assert pairs[-1]["axes"] == {"loss": "wasserstein + r1", "batch_size": 32, "generator_optimizer.lr": 2e-4}
    assert {pair["recipe"]["turns"] for pair in pairs} == {"D,D,G"}
    (tmp_path / "study.toml").write_text(STUDY)
    replaced = ganzoo("benchmark", tmp_path / "study.toml",
                      "--seeds", "7", "--loss", "hinge", "--loss", "nonsaturating",
                      "--dry-run", "--json", "--out", tmp_path)  # fmt: skip
    assert replaced.exit_code == 0, replaced.output
    pairs = json.loads(replaced.stdout)["pairs"]
    assert {pair["axes"]["loss"] for pair in pairs} == {"hinge", "nonsaturating"}
    assert all("-seed7-" in name for pair in pairs for name in pair["trials"])
    for wrong, words in (("lr", "is not written FIELD=VALUE"), ("batch_size=", "is empty"), ("los=a", "Did you mean")):
        refused = ganzoo("benchmark", *common, "--set", wrong, "--dry-run")
        assert refused.exit_code == 2
        assert words in refused.output


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study with an axis and two rows."""
    out = tmp_path_factory.mktemp("study")
    rows = {"plain": {}, "penalised": {"penalty": "r1"}}
    package.benchmark(BASE, axes={"batch_size": [8, 16]}, rows=rows, exclude=[{"row": "penalised", "batch_size": 8}],
                      out=out, device="cpu", jobs=2)  # fmt: skip
    return out


def test_axes_are_columns_of_the_table(finished: Path) -> None:
    found = json.loads((finished / "table.json").read_text())
    brightness = [row for row in found if row["score"] == "brightness"]
    assert [(row["row"], row["axes"]) for row in brightness] == [
        ("plain", {"batch_size": 8, "penalty": "none"}),
        ("plain", {"batch_size": 16, "penalty": "none"}),
        ("penalised", {"batch_size": 16, "penalty": "r1"}),
    ]
    assert all(row["seeds"] == 1 for row in found)
    assert "| architecture | row | batch_size | penalty | last |" in (finished / "table.md").read_text()
    assert ",row,batch_size,penalty,low," in (finished / "table.csv").read_text().splitlines()[0]


def test_axes_are_columns_of_the_report(finished: Path, tmp_path: Path) -> None:
    table = ganzoo("report", finished, "--format", "md").stdout
    assert "| architecture | row | batch_size | penalty |" in table
    assert "| Tiny | penalised | 16 | r1 |" in table
    assert ganzoo("report", finished, "--format", "csv").stdout.startswith(
        "dataset,architecture,row,batch_size,penalty,"
    )
    assert "{lllr" in ganzoo("report", finished, "--format", "latex").stdout.replace("{llll", "{lll")
    groups = json.loads(ganzoo("report", finished, "--format", "json").stdout)["groups"]
    assert {(group["row"], group["axes"]["batch_size"]) for group in groups} == {
        ("plain", "8"),
        ("plain", "16"),
        ("penalised", "16"),
    }


def test_a_table_with_axes_can_be_verified(finished: Path, tmp_path: Path) -> None:
    from ganzoo.experiments import verify

    rows = verify.read_table(finished / "table.json")
    found = verify.trials_of(ZOO, rows, finished / "table.json")
    assert {(trial.row, *trial.axes.items()) for trial in found} == {(row["row"], *row["axes"].items()) for row in rows}
