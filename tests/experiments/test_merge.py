"""Merging benchmarks: joined rows, refused rows and trials, versions, and what reads the merged folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import ZOO, ganzoo, plan_trials

import ganzoo as package
from ganzoo import Choice, UsageError
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial
from ganzoo.experiments.run_grid import benchmark
from ganzoo.experiments.worker import run_trial
from ganzoo.storage.run import Run

TINY, BRIGHTNESS = f"{tiny.__file__}:Tiny", f"{tiny.__file__}:Brightness"


def trials(*seeds: int, architecture: str = TINY, **changes: Any) -> list[Trial]:
    parts = [Choice.parse(architecture)], [Choice.parse("digits:size=8")], [Choice.parse(BRIGHTNESS)]
    return plan_trials(ZOO, *parts, seeds, None, {"length": "4 steps", "score_samples": 20, **changes})


def grid(out: Path, requested: list[Trial]) -> Path:
    """A finished benchmark, trained in this process."""
    folder = Folder(out)
    with folder.taken():
        for trial in requested:
            folder.write_request(trial, "cpu", torch.get_num_threads())
            run_trial(folder.status_dir(trial), ZOO)
    benchmark(ZOO, requested, out, "cpu", note=lambda text: None)
    return out


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two benchmarks of one recipe with other seeds; the second has an architecture of its own as well."""
    out = tmp_path_factory.mktemp("machines é")
    second = [*trials(2), *trials(2, architecture=f"{TINY}:width=4")]
    return grid(out / "a", trials(0, 1)), grid(out / "b", second)


def edited(source: Path, out: Path, file: str, change: Callable[[Any], None]) -> Path:
    """A copy of a benchmark in which `change` has edited each object in that file of each run."""
    shutil.copytree(source, out)
    for path in out.glob(f"runs/*/{file}"):
        # lines without their checksums are read as they are
        values = Run.open(path.parent).lines(file) if file.endswith("l") else [json.loads(path.read_text())]
        for value in values:
            change(value)
        path.write_text("\n".join(map(json.dumps, values)) + "\n")
    return out


def test_seeds_of_two_machines_are_one_row(machines: tuple[Path, Path], tmp_path: Path) -> None:
    result = ganzoo("merge", *machines, "-o", tmp_path / "all", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    rows = [row for row in found["rows"] if row["score"] == "brightness"]
    assert [(row["architecture"], row["finished"]) for row in rows] == [(TINY, [0, 1, 2]), (f"{TINY}:width=4", [2])]
    assert found["refused"] == []
    assert found["trials"] == 4
    alone = [json.loads((one / "table.json").read_text())[0] for one in machines]
    assert rows[0]["last"]["values"] == [*alone[0]["last"]["values"], *alone[1]["last"]["values"]]
    assert rows[0]["floor"] == alone[0]["floor"]
    assert rows[0]["axes"] == {}
    assert json.loads((tmp_path / "all" / "table.json").read_text()) == found["rows"]
    assert not list((tmp_path / "all").glob("runs/*/checkpoints"))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_merged_folder_is_read_by_the_other_commands(machines: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "all"
    table = package.merge(machines, out=out)
    assert table.trials == {str(machines[0]): 2, str(machines[1]): 2}
    groups = json.loads(ganzoo("report", out, "--format", "json").stdout)["groups"]
    assert sorted(group["seeds"] for group in groups) == [[0, 1, 2], [2]]
    runs = sorted((out / "runs").iterdir())
    assert ganzoo("compare", runs[0], runs[1], "--json").exit_code == 0
    again = benchmark(ZOO, trials(0, 1, 2), out, "cpu", note=lambda text: None)
    assert again[0]["finished"] == [0, 1, 2]
    more = package.merge(out, grid(tmp_path / "c", trials(3)), out=tmp_path / "more")
    assert more[0]["finished"] == [0, 1, 2, 3]


def test_a_trial_of_both_folders_counts_once(machines: tuple[Path, Path], tmp_path: Path) -> None:
    table = package.merge(machines[0], Path(shutil.copytree(machines[0], tmp_path / "copy")), out=tmp_path / "all")
    assert table[0]["finished"] == [0, 1]
    assert table.refused == []


def test_unlike_cards_are_refused_row_by_row(machines: tuple[Path, Path], tmp_path: Path) -> None:
    other = grid(tmp_path / "more fakes", trials(5, score_samples=30))

    def change(line: dict[str, Any]) -> None:
        if line["score"] != "brightness":  # as if only one of the scores were measured otherwise
            line["card"] = {**line["card"], "digest": "ffff"}

    third = edited(machines[1], tmp_path / "third", "scores.jsonl", change)
    result = ganzoo("merge", machines[0], other, third, "-o", tmp_path / "all", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    rows = {(row["architecture"], row["score"]): row["finished"] for row in found["rows"]}
    assert rows[TINY, "brightness"] == [0, 1, 2]
    assert rows[TINY, "fakes"] == [0, 1]
    assert {(one["score"], one["folder"], *one["seeds"]) for one in found["refused"]} >= {
        ("brightness", str(other), 5),
        ("fakes", str(third), 2),
    }
    reason = next(one["reason"] for one in found["refused"] if one["folder"] == str(other))
    assert reason == f"it was measured unlike {machines[0]}: fakes 30, not 20"
    assert f"brightness of {other} is not joined" in result.stderr
    assert "not joined, see above" in result.stderr
    assert all(row["note"] == "" for row in found["rows"])


def test_one_training_with_two_scores_is_refused(machines: tuple[Path, Path], tmp_path: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        line["value"] += 1

    other = edited(machines[0], tmp_path / "other", "scores.jsonl", change)
    table = package.merge(*machines, other, out=tmp_path / "all")
    assert table[0]["finished"] == [2]
    assert {tuple(one["seeds"]) for one in table.refused} == {(0,), (1,)}
    assert f" in {machines[0]} (" in table.refused[0]["reason"]
    assert "neither is taken" in table.refused[0]["reason"]


def test_versions_are_told_apart(machines: tuple[Path, Path], tmp_path: Path) -> None:
    other = edited(machines[0], tmp_path / "new", "environment.json",
                   lambda facts: facts["versions"].update(torch="9.9"))  # fmt: skip
    table = package.merge(machines[0], other, out=tmp_path / "all")
    rows = [row for row in table if row["score"] == "brightness"]
    assert [row["axes"]["torch"] for row in rows] == [torch.__version__.partition("+")[0], "9.9"]
    assert [row["finished"] for row in rows] == [[0, 1]] * 2
    assert len(list((tmp_path / "all" / "runs").iterdir())) == 4
    report = ganzoo("report", tmp_path / "all", "--format", "md").stdout
    assert "| architecture | torch |" in report
    assert "| 9.9 |" in report


def test_other_recipes_under_one_name_are_not_averaged(machines: tuple[Path, Path], tmp_path: Path) -> None:
    other = grid(tmp_path / "large", trials(7, batch_size=8))
    table = package.merge(machines[0], other, out=tmp_path / "all")
    rows = [row for row in table if row["score"] == "brightness"]
    assert [(row["axes"], row["finished"]) for row in rows] == [
        ({"batch_size": "16"}, [0, 1]),
        ({"batch_size": "8"}, [7]),
    ]


def test_folders_of_older_versions_are_merged(machines: tuple[Path, Path], tmp_path: Path) -> None:
    """Their requests have neither the architecture as it was written nor axes."""
    old = Path(shutil.copytree(machines[0], tmp_path / "old"))
    for path in old.glob("cells/*/cell.json"):
        facts = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in facts.items() if k in ("recipe", "scores", "run", "device")}))
    rows = json.loads((old / "table.json").read_text())
    (old / "table.json").write_text(
        json.dumps([{k: v for k, v in r.items() if k not in ("row", "axes")} for r in rows])
    )
    assert package.merge(old, machines[1], out=tmp_path / "all")[0]["finished"] == [0, 1, 2]


def test_what_cannot_be_merged_is_refused(machines: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = machines
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for words, paths, out in (
        ("at least two", [a], "new"),
        ("named twice", [a, a], "new"),
        ("There is no folder", [a, tmp_path / "none"], "new"),
        ("is not the folder of a benchmark", [a, tmp_path / "full"], "new"),
        ("is not empty", [a, b], "full"),
        ("there is no directory", [a, b], "none/new"),
    ):
        with pytest.raises(UsageError, match=words):
            package.merge(paths, out=tmp_path / out)
    assert ganzoo("merge", a, "-o", tmp_path / "new").exit_code == 2
    assert not (tmp_path / "new").exists()
