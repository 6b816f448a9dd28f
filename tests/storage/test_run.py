"""The run directory: one writer, whole files, and no way to take a damaged one for a good one."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ganzoo import Amount, GanzooError, Recipe, TrainingProgress, UsageError
from ganzoo.storage.lock import _process_start
from ganzoo.storage.run import Run
from ganzoo.storage.run_directory import claim_directory

RECIPE = Recipe(architecture="mlp-vanilla:width=8", dataset="digits", losses=["hinge", "r1:gamma=2"], seed=7)
IMAGES = {"channels": 1, "height": 8, "width": 8, "classes": 2}
ENVIRONMENT = {"device": "cpu", "images": IMAGES, "class_names": ["0", "1"], "versions": {"torch": "2"}}


def score_line(step: int, **more: bool) -> dict[str, object]:
    card = {"digest": "ab"}
    return {"score": "x", "value": 0.5, "better": "lower", "card": card, "step": step, "images": 10 * step, **more}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "a", RECIPE, ENVIRONMENT)


# --- making and opening ---


def test_what_was_created_can_be_opened(run):
    run.close()
    reader = Run.open(run.path)
    assert reader.recipe == RECIPE
    assert reader.environment == ENVIRONMENT
    assert not reader.writes
    assert sorted(path.name for path in run.path.iterdir()) == ["environment.json", "recipe.json"]


def test_an_empty_directory_will_do(tmp_path):
    (tmp_path / "a").mkdir()
    Run.create(tmp_path / "a", RECIPE, {})
    assert Run.open(tmp_path / "a").recipe == RECIPE


def test_a_run_is_never_written_over(run):
    before = (run.path / "recipe.json").read_bytes()
    with pytest.raises(UsageError, match="holds a run already: continue it with `ganzoo resume"):
        Run.create(run.path, Recipe(), {})
    assert (run.path / "recipe.json").read_bytes() == before


def test_what_is_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file; --out needs a new or empty directory"):
        Run.create(tmp_path / "file", RECIPE, {})
    with pytest.raises(GanzooError, match=r"Cannot write a run to .*: Not a directory"):
        Run.create(tmp_path / "file" / "a", RECIPE, {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and holds no run"):
        Run.create(tmp_path / "full", RECIPE, {})
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_that_cannot_be_written_lets_go_of_the_directory(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(GanzooError, match=r"Cannot write a run to .*: No space left on device"):
            Run.create(tmp_path / "a", RECIPE, {})
    assert list((tmp_path / "a").iterdir()) == []
    Run.create(tmp_path / "a", RECIPE, {})


def test_a_directory_without_a_run_is_refused(tmp_path):
    for path, reason in ((tmp_path, r"there is no recipe\.json"), (tmp_path / "nowhere", "there is no such folder")):
        with pytest.raises(UsageError, match=f"holds no run: {reason}"):
            Run.open(path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "5", "[]", "[1]", '"x"', "{}", "\xff"),
        *('{"architecture": 5}', '{"strange": 1}', '{"seed": "x"}'),
        *('{"architecture": "mlp-vanilla"}', '{"dataset": "digits"}'),
    ],
)
def test_a_damaged_recipe_is_named_and_nothing_is_locked(run, text):
    run.close()
    (run.path / "recipe.json").write_text(text, encoding="latin-1")
    for writes in (False, True):
        with pytest.raises(GanzooError, match=r"recipe\.json is damaged: ") as error:
            Run.open(run.path, writes)
        assert error.value.exit_code == 1
    assert not (run.path / "lock").exists()


@pytest.mark.parametrize("name", ["~no-such-user/x.py:A", "~\0/x.py:A", "\ud800/x.py:A"])
def test_a_location_that_can_be_no_path_is_a_sentence(run, name):
    run.close()
    facts = json.loads((run.path / "recipe.json").read_text())
    (run.path / "recipe.json").write_text(json.dumps({**facts, "losses": [name]}))
    if name.startswith("~no"):
        assert Run.open(run.path).recipe.losses[0].name == name
    else:
        with pytest.raises(GanzooError, match="cannot be a path: "):
            Run.open(run.path)


def test_no_truncation_of_a_recipe_is_taken_for_one(run):
    for length in reversed(range(len((run.path / "recipe.json").read_text().rstrip()))):
        os.truncate(run.path / "recipe.json", length)
        with pytest.raises(GanzooError, match=r"recipe\.json is damaged: "):
            Run.open(run.path)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}"])
def test_a_damaged_environment_is_named(run, text):
    (run.path / "environment.json").unlink()
    if text is not None:
        (run.path / "environment.json").write_text(text)
    with pytest.raises(GanzooError, match=r"environment\.json is damaged or missing"):
        _ = Run.open(run.path).environment


def test_only_the_length_moves(run):
    run.change(run.recipe.merged({"length": Amount(75, "epochs")}))
    assert Run.open(run.path).recipe == RECIPE.merged({"length": "75 epochs"})
    reader = Run.open(run.path)
    reader.change(reader.recipe.merged({"length": Amount(80, "epochs")}))
    assert reader.recipe.length == Amount(80, "epochs")
    assert Run.open(run.path).recipe.length == Amount(75, "epochs")


# --- one writer ---


def owned_by(run: Run, pid: int, start: str | None = None, host: str = socket.gethostname()) -> None:
    owner = {"pid": pid, "host": host, "start": start or _process_start(pid)}
    (run.path / "lock").write_text(json.dumps(owner))


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_told_who_writes(run, sleeper):
    with pytest.raises(GanzooError, match=f"being written by process {os.getpid()} on this machine"):
        Run.open(run.path, writes=True)
    Run.open(run.path)  # reading is free
    owned_by(run, sleeper.pid)
    with pytest.raises(GanzooError, match=f"being written by process {sleeper.pid} on this machine; stop that one"):
        Run.open(run.path, writes=True)


def test_what_the_first_has_closed_the_second_may_open(run):
    run.close()
    second = Run.open(run.path, writes=True)
    run.close()  # again: it is not its own any more
    with pytest.raises(GanzooError, match="being written by process"):
        Run.open(run.path, writes=True)
    second.close()
    assert not (run.path / "lock").exists()


def test_the_lock_of_a_dead_process_is_taken_over(run, sleeper):
    start = _process_start(sleeper.pid)
    assert start
    sleeper.kill()
    sleeper.wait()
    owned_by(run, sleeper.pid, start)
    taken = Run.open(run.path, writes=True)
    assert json.loads((run.path / "lock").read_text())["pid"] == os.getpid()
    taken.close()


def test_without_proc_a_process_of_another_user_is_alive(run, monkeypatch):
    """macOS has no /proc, and `kill` reports another user's process as PermissionError."""

    def kill(pid: int, number: int) -> None:
        raise {1: PermissionError, 2: ProcessLookupError}.get(pid, OverflowError)

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert [_process_start(pid) for pid in (1, 2, 10**30)] == ["alive", None, None]


def test_a_process_that_waits_to_be_buried_is_dead(run):
    with subprocess.Popen(["sleep", "600"]) as process:
        owned_by(run, process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        Run.open(run.path, writes=True).close()


def test_a_number_that_was_given_to_another_process_is_no_owner(run, sleeper):
    owned_by(run, sleeper.pid, start="12345")
    Run.open(run.path, writes=True).close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "host": "y", "start": "z"}', '{"pid": 1}'])
def test_a_lock_that_says_nothing_is_taken_over(run, text):
    (run.path / "lock").write_text(text)
    Run.open(run.path, writes=True).close()


def test_the_lock_of_another_machine_is_left_to_people(run):
    owned_by(run, 5, "1", host="elsewhere")
    with pytest.raises(GanzooError, match=r"locked by process 5 on elsewhere.*; if that one is gone"):
        Run.open(run.path, writes=True)
    assert (run.path / "lock").exists()


@pytest.mark.parametrize("left", [None, "", '{"pid": 4194304, "host": "HOST", "start": "1"}'])
def test_of_many_at_once_one_writes(run, left):
    run.close()
    for _ in range(20):
        if left is not None:
            (run.path / "lock").write_text(left.replace("HOST", socket.gethostname()))
        barrier, writers, refused = threading.Barrier(8), [], []

        def take(barrier=barrier, writers=writers, refused=refused) -> None:
            barrier.wait()
            try:
                writers.append(Run.open(run.path, writes=True))
            except GanzooError as error:
                refused.append(error)

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(writers), len(refused)) == (1, 7)
        writers[0].close()


# --- what happened ---


def test_lines_are_appended(run):
    lines = [{"step": step, "images": 9 * step, "loss": step / 3, "ü\u2028\n": 1} for step in range(3)]
    for line in lines:
        run.append("stats.jsonl", line)
    assert Run.open(run.path).lines("stats.jsonl") == lines
    assert run.lines("scores.jsonl") == []


@pytest.mark.parametrize("torn", ["{", '{"step": 3, "lo', '{"step": 3}'[:-1]])
def test_a_torn_line_costs_no_other(run, torn):
    """A process was killed while it wrote; others append to the same file later."""
    one, four, five = (score_line(step) for step in (1, 4, 5))
    run.append("scores.jsonl", one)
    with open(run.path / "scores.jsonl", "a") as file:
        file.write(torn)
    assert run.lines("scores.jsonl") == [one]
    run.append("scores.jsonl", four)
    run.append("scores.jsonl", five)
    assert run.lines("scores.jsonl") == [one, four, five]


def test_files_are_named_by_images_seen(run):
    for images in (5, 1_000_000_000, 999_999_999):
        run.file("samples", TrainingProgress(1, images, 0.5), ".png").touch()
    (run.path / "samples" / ".000000007.png.a1b2").touch()
    (run.path / "samples" / "notes.png").touch()
    assert (run.path / "samples" / "000000005.png").exists()
    assert run.newest("samples", ".png") == run.path / "samples" / "1000000000.png"
    assert run.newest("samples", ".gif") is None
    assert run.newest("generators", ".png") is None


def test_what_lies_beyond_a_moment_is_forgotten(run):
    for step in range(1, 6):
        run.append("stats.jsonl", {"step": step, "images": 10 * step, **({"partial": True} if step == 3 else {})})
    with open(run.path / "stats.jsonl", "a") as file:
        file.write('{"step": 6')
    by_hand, *trained = [score_line(step, training=step < 5) for step in (5, 3, 4)]
    for line in (by_hand, *trained, score_line(3, training=True, partial=True)):
        run.append("scores.jsonl", line)
    for folder in ("samples", "generators"):
        for images in (0, 10, 30, 40):
            run.file(folder, TrainingProgress(0, images, 0), ".x").touch()
        (run.path / folder / "notes.txt").touch()
        (run.path / folder / ".000000030.x.5c1e").touch()
    for name in ("environment.json", "recipe.json", "history.json", "stats.jsonl", "scores.jsonl"):
        (run.path / f".{name}.5c1e").touch()
    run.cut_back(TrainingProgress(3, 30, 1.0))
    assert not list(run.path.rglob("*.5c1e"))
    kept = (run.path / "stats.jsonl").read_text()
    assert re.sub(', "crc": "[0-9a-f]{8}"', "", kept) == '{"step": 1, "images": 10}\n{"step": 2, "images": 20}\n'
    for folder in ("samples", "generators"):
        left = sorted(path.name for path in (run.path / folder).iterdir())
        assert left == ["000000000.x", "000000010.x", "000000030.x", "notes.txt"]
    # the score of an end stays, a line of statistics does not: the next line covers its steps again
    assert run.lines("scores.jsonl") == [by_hand, trained[0], score_line(3, training=True, partial=True)]
    run.cut_back(TrainingProgress(3, 30, 1.0))
    shutil.rmtree(run.path / "samples")
    run.cut_back(TrainingProgress(0, 0, 0.0))
    assert run.lines("stats.jsonl") == []


def test_what_a_killed_process_leaves_is_not_in_the_way_and_what_is_somebodys_is(tmp_path):
    facts = {"device": "cpu", "images": {"channels": 1, "height": 8, "width": 8, "classes": 10}}
    ours = json.dumps({**facts, "class_names": [], "versions": {}})
    for name, text, taken in (
        ("lock", "{}", False),
        (".recipe.json.5c1e", "", False),
        ("environment.json", ours, False),
        ("environment.json", '{"mine": 1}', True),
        ("lockfile.txt", "mine", True),
    ):
        folder = tmp_path / f"{name}-{taken}"
        folder.mkdir()
        (folder / name).write_text(text)
        if taken:
            with pytest.raises(UsageError, match="is not empty and holds no run"):
                Run.refuse_taken(folder)
        else:
            Run.refuse_taken(folder)


def test_processes_that_ask_at_the_same_time_get_directories_of_their_own(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: claim_directory(RECIPE, tmp_path / "runs"), range(48)))
    assert len(set(found)) == 48
    assert all(path.is_dir() for path in found)
    assert claim_directory(RECIPE, tmp_path / "runs").name.endswith("-49")


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(GanzooError, match=r"Cannot write a run to .*runs: "):
        claim_directory(RECIPE, tmp_path / "runs")
    with pytest.raises(GanzooError, match="Cannot write a run to"):
        claim_directory(Recipe(architecture="a" * 300, dataset="digits"), tmp_path)


def test_a_changed_environment_is_noticed(run):
    file = run.path / "environment.json"
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"cpu"', b'"cuda"'))
    with pytest.raises(GanzooError, match=r"environment.json is damaged or missing: it does not match its own sha256"):
        _ = run.environment
    facts = json.loads(data)
    del facts["sha256"]  # edited by hand on purpose, or written by an earlier version
    file.write_text(json.dumps({**facts, "device": "cuda"}))
    assert run.environment == {**ENVIRONMENT, "device": "cuda"}
