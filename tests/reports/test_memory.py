"""What a report remembers: a second reading reads only the runs that have changed, and finds the same."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from making import make_run, score

from ganzoo.reports import collect, page, sprites
from ganzoo.reports.memory import Memory, states_of
from ganzoo.reports.page import page_data
from ganzoo.storage.run import Run

_RUNS = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs" / "0", seed=0, scores=(score(5.0),))
    for number in range(1, _RUNS):
        shutil.copytree(tmp_path / "runs" / "0", tmp_path / "runs" / str(number))
    return tmp_path / "runs"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often run directories, files of lines and grids were read, and pictures encoded."""
    counts: Counter[str] = Counter()

    def count(name: str, module: Any, function: str) -> None:
        original = getattr(module, function)

        def counted(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(module, function, counted)

    count("runs", collect, "_read")
    count("lines", Run, "lines")
    count("grids", sprites, "_tiles")
    count("films", sprites, "data_uri")
    return counts


def _read(folder: Path) -> dict[str, Any]:
    return {name: value for name, value in page_data([folder]).items() if name != "made"}


def test_only_what_has_changed_is_read_again(folder: Path, reads: Counter[str]) -> None:
    first = _read(folder)
    assert reads["runs"] == reads["films"] == _RUNS
    assert reads["grids"] == 3 * _RUNS
    reads.clear()
    assert _read(folder) == first
    assert not reads
    Run.open(folder / "2").append("stats.jsonl", {"step": 21, "images": 1344, "epoch": 1.0, "generator_loss": 7.0})
    second = _read(folder)
    assert reads.pop("lines") <= 5
    assert reads == {"runs": 1}
    assert [run["images"] for run in second["runs"]] == [1280, 1280, 1344, 1280, 1280, 1280]
    assert second["runs"][2]["stats"]["generator_loss"][-1] == 7.0
    reads.clear()
    shutil.copy(folder / "1" / "samples" / "000000000.png", folder / "1" / "samples" / "000001344.png")
    third = _read(folder)
    assert reads == {"grids": 4, "films": 1}
    assert third["runs"][1]["film"]["images"] == [0, 640, 1280, 1344]


def test_a_remembered_report_is_that_of_a_first_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _read(folder)
    Run.open(folder / "3").append("scores.jsonl", score(4.0, 1344))
    shutil.rmtree(folder / "1")
    (folder / "4" / "stats.jsonl").write_text("damaged\n")
    (folder / "5" / "lock").write_text("{}")
    remembered = _read(folder)
    for memory in (collect._records, sprites._films):
        memory.clear()
    assert _read(folder) == remembered
    states = {run["name"]: run["state"] for run in remembered["runs"]}
    assert states == {"0": "finished", "2": "finished", "3": "finished", "4": "unfinished", "5": "finished"}


def test_what_is_added_to_a_report_is_not_remembered(folder: Path) -> None:
    report = page.gather([folder])
    report.runs[0].notes.append("a note of this report")
    report.runs[0].drawings["fresh"] = {}
    again = page.gather([folder]).runs[0]
    assert again.notes == []
    assert again.drawings == {}


def test_a_training_that_is_silent_has_stopped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", length="9999 images")
    (run / "lock").write_text("{}")
    assert page.gather([run]).runs[0].state == "training"
    for name in ("lock", "stats.jsonl"):
        os.utime(run / name, (1e9, 1e9))
    assert page.gather([run]).runs[0].state == "unfinished"


def test_the_same_run_by_another_name(folder: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _read(folder)
    monkeypatch.chdir(folder.parent)
    assert [run["path"] for run in _read(Path("runs"))["runs"]] == [f"runs/{number}" for number in range(_RUNS)]
    assert reads["runs"] == 2 * _RUNS
    assert reads["films"] == _RUNS


def test_a_film_of_other_bytes(folder: Path, reads: Counter[str]) -> None:
    def film(bytes_left: int) -> str:
        return str(sprites.film(folder / "0" / "samples", (1, 8, 8), (2, 3), 20, bytes_left)["image"])

    large = film(1 << 20)
    assert film(1 << 16) == large
    assert reads["films"] == 1
    small = film(500)
    assert len(small) < len(large)
    assert film(500) == small
    assert reads["films"] == 2
    assert film(1 << 20) == large
    assert reads["films"] == 3


def test_a_memory_has_a_limit(tmp_path: Path) -> None:
    memory = Memory[str](most=10)
    for number in range(8):
        memory.put(number, "state", str(number), size=3)
    assert [memory.get(number, "state") for number in range(8)] == ["0", "1", "2", *[None] * 5]
    assert memory.get(0, "other state") is None
    memory.put(1, "new", "one", size=30)
    assert memory.get(1, "new") is None
    memory.keep([0])
    assert [memory.get(number, "state") for number in range(3)] == ["0", None, None]
    memory.put(5, "state", "five", size=7)
    assert memory.get(5, "state") == "five"
    assert states_of([tmp_path / "nothing"]) == (("nothing", None),)


def test_the_memory_of_films_is_limited(folder: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprites, "_films", Memory(most=4000))
    first = _read(folder)
    assert reads["films"] == _RUNS
    assert _read(folder) == first
    assert _RUNS < reads["films"] < 2 * _RUNS
