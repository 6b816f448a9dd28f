"""What a report reads: sources, damage, groups, columns of one measurement, and the numbers in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from making import make_run, score, three_by_two

from ganzoo import UsageError
from ganzoo.experiments.table import interval, spread
from ganzoo.reports.collect import collect
from ganzoo.reports.page import page_data
from ganzoo.reports.sources import find_sources
from ganzoo.storage.files import write_atomically


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_by_two(tmp_path_factory.mktemp("runs"))


def test_runs_that_differ_in_their_seed_only_are_one_group(runs: Path) -> None:
    data = page_data([runs])
    assert [(group["label"], group["seeds"]) for group in data["groups"]] == [
        ("dcgan", [0, 1, 2]),
        ("mlp-keras-gan", [0, 1]),
        ("mlp-vanilla", [0, 1, 2]),
    ]
    [column] = data["columns"]
    cell = data["groups"][0]["cells"][0]
    assert cell["column"] == column["id"]
    assert cell["last"]["values"] == [5.0, 5.5, 6.0]
    assert {**spread([5.0, 5.5, 6.0]), "images": [1280] * 3} == cell["last"]  # as in the table of a benchmark
    assert cell["interval"] == interval([5.0, 5.5, 6.0])
    assert cell["wins"]
    assert not data["groups"][2]["cells"][0]["wins"]


def test_differences_say_who_wins_by_more_than_the_spread(runs: Path) -> None:
    data = page_data([runs])
    labels = {group["id"]: group["label"] for group in data["groups"]}
    found = {(labels[one["first"]], labels[one["second"]]): one for one in data["differences"]}
    assert found["dcgan", "mlp-vanilla"]["winner"] == "first"
    assert found["dcgan", "mlp-vanilla"]["interval"][0] > 0
    assert found["mlp-keras-gan", "mlp-vanilla"]["delta"] == pytest.approx(-1.75)


def test_another_length_is_another_group_with_a_label_that_says_so(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", length="2560 images")
    make_run(tmp_path / "c", tick_every="3 steps")  # does not change what is trained
    make_run(tmp_path / "d", "mlp-keras-gan:latent_dim=16")
    labels = {group["label"]: len(group["runs"]) for group in page_data([tmp_path])["groups"]}
    assert labels == {"mlp-vanilla, 1280 images": 2, "mlp-vanilla, 2560 images": 1, "mlp-keras-gan, latent_dim=16": 1}


def test_unlike_cards_never_stand_in_one_column(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=0, scores=(score(5.0),))
    make_run(tmp_path / "b", seed=1, scores=(score(9.0, fakes=200),))
    data = page_data([tmp_path])
    assert len({column["digest"] for column in data["columns"]}) == 2
    assert all("fakes, card" in column["label"] for column in data["columns"])
    [group] = data["groups"]
    assert [(cell["seeds"], cell["last"]["values"]) for cell in group["cells"]] == [([0], [5.0]), ([1], [9.0])]


def test_last_and_best_are_those_of_a_benchmark(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores=(score(3.0, 640), score(7.0, 1280), score(2.0, 1280, training=False)))
    [one] = page_data([tmp_path])["runs"][0]["measurements"]
    assert (one["last"], one["best"], one["best_images"]) == (7.0, 3.0, 640)


def test_scores_of_several_choices_of_fakes_are_kept(tmp_path: Path) -> None:
    again = [score(7.0 + seed, 1280, fakes_seed=seed, training=False) for seed in (1, 2)]
    make_run(tmp_path / "a", scores=(score(7.0, 1280), *again))
    [one] = page_data([tmp_path])["runs"][0]["measurements"]
    assert one["fakes"] == [7.0, 8.0, 9.0]


def test_damaged_and_foreign_directories_are_failures_and_end_nothing(tmp_path: Path) -> None:
    good = make_run(tmp_path / "good", scores=(score(5.0),))
    for name in ("recipe", "empty-recipe", "no-recipe", "scores", "stats", "environment", "picture"):
        shutil.copytree(good, tmp_path / name)
    (tmp_path / "recipe/recipe.json").write_text("{not json")
    (tmp_path / "empty-recipe/recipe.json").write_text("{}")
    (tmp_path / "no-recipe/recipe.json").unlink()
    (tmp_path / "scores/scores.jsonl").write_text('{"score": 1}\n{"score": 2}\n')
    (tmp_path / "stats/stats.jsonl").write_text("damage\nmore damage\n")
    (tmp_path / "environment/environment.json").write_text("[]")
    (tmp_path / "picture/samples/000000640.png").write_bytes(b"no picture")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/notes.txt").write_text("nothing of ours")
    data = page_data([tmp_path])
    failed = {Path(one["path"]).name: one["reason"] for one in data["failures"]}
    assert failed.keys() == {"recipe", "empty-recipe", "no-recipe"}
    assert all(reason.endswith(".") for reason in failed.values())
    runs = {run["name"]: run for run in data["runs"]}
    assert runs.keys() == {"good", "scores", "stats", "environment", "picture"}
    assert any("scores.jsonl" in note for note in runs["scores"]["notes"])
    assert any("stats.jsonl" in note for note in runs["stats"]["notes"])
    assert any("environment.json" in note for note in runs["environment"]["notes"])
    assert runs["picture"]["film"]["images"] == [0, 1280]


def test_a_benchmark_brings_its_floor_and_its_failed_trials(tmp_path: Path) -> None:
    make_run(tmp_path / "bench/runs/a", scores=(score(5.0),))
    [row] = page_data([tmp_path])["columns"]
    facts = {"score": "fid-domain", "card": {"digest": row["digest"]}, "floor": 0.5, "floor_images": 299}
    scale = [{"damage": "noise", "strength": 16, "value": 3.0, "images": 299}]
    write_atomically(tmp_path / "bench/table.json", json.dumps([{**facts, "calibration": scale}, "damage"]).encode())
    trial = tmp_path / "bench/cells/mlp-vanilla-digits-seed1"
    trial.mkdir(parents=True)
    recipe = {**json.loads((tmp_path / "bench/runs/a/recipe.json").read_text()), "seed": 1}
    (trial / "cell.json").write_text(json.dumps({"recipe": recipe}))
    (trial / "failed.json").write_text(json.dumps({"reason": "It ran out of memory.", "exit_code": 1}))
    data = page_data([tmp_path / "bench"])
    assert (data["columns"][0]["floor"], data["columns"][0]["scale"]) == (0.5, scale)
    [group] = data["groups"]  # the failed trial belongs to the group of its recipe
    assert group["failures"] == [{"seed": 1, "reason": "It ran out of memory."}]
    assert page_data([tmp_path / "bench/table.json"])["groups"] == data["groups"]


def test_a_run_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    make_run(tmp_path / "a/run")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert len(collect([tmp_path / "a", tmp_path / "a/run", tmp_path / "link"])[0]) == 1


@pytest.mark.parametrize(("name", "words"), [("gone", "does not exist"), ("file", "is a file"), ("empty", "no run")])
def test_a_path_without_runs_is_refused(tmp_path: Path, name: str, words: str) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=words):
        find_sources([tmp_path / "run", tmp_path / name])


def test_no_path_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        find_sources([])
