"""One run, one writer: the second one gets an error that names the first; a dead process holds nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kills
import pytest

from ganzoo import GanzooError, Recipe
from ganzoo.storage import run as storage_run
from ganzoo.storage.lock import GUARD, exclusive
from ganzoo.storage.run import Run

RECIPE = Recipe(architecture="mlp-vanilla:width=8", dataset="digits")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run that nobody writes."""
    run = Run.create(tmp_path / "run", RECIPE, {})
    run.close()
    return run.path


@pytest.mark.parametrize("full", [False, True])
def test_a_lock_that_is_a_directory_is_a_sentence(path, full):
    (path / "lock").mkdir()
    if full:
        (path / "lock" / "a").write_text("mine")
    with pytest.raises(GanzooError, match=r"/lock is a directory, where the lock of a run is a file: remove it\."):
        Run.open(path, writes=True)
    assert (path / "lock").is_dir()
    Run.open(path)  # to read it takes no lock


@pytest.mark.parametrize("target", ["nowhere", "lock", "."])
def test_a_lock_that_is_a_link_is_nobodys(path, target):
    (path / "lock").symlink_to(target)
    Run.open(path, writes=True).close()
    assert not (path / "lock").is_symlink()


def living(path: Path) -> int:
    """A process that writes the run."""

    def hold() -> None:
        Run.open(path, writes=True)
        (path.parent / "held").touch()
        time.sleep(600)

    pid = kills.forked(hold)
    while not (path.parent / "held").exists():
        time.sleep(0.01)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    kills.wait(pid)


def test_the_second_is_told_by_whom_where_and_since_when(path):
    pid = living(path)
    try:
        since = time.perf_counter()
        with pytest.raises(GanzooError) as refused:
            Run.open(path, writes=True)
        assert time.perf_counter() - since < 1
    finally:
        kill(pid)
    today = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}"
    words = rf"being written by process {pid} on this machine \({re.escape(socket.gethostname())}, since {today}\)"
    assert re.search(words, str(refused.value))
    taken = Run.open(path, writes=True)  # it was killed: its lock is there, and holds nobody off
    assert taken.taken_over
    taken.close()
    again = Run.open(path, writes=True)
    assert not again.taken_over
    again.close()


def lock(path: Path, **changes: Any) -> None:
    """The lock of this process, which lives, with changes."""
    (path / "lock").unlink(missing_ok=True)
    mine = Run.open(path, writes=True)
    owner = json.loads((path / "lock").read_text())
    mine.close()
    (path / "lock").write_text(json.dumps({key: v for key, v in (owner | changes).items() if v is not None}))


def test_the_same_number_and_start_in_another_boot_is_nobody(path):
    lock(path)
    with pytest.raises(GanzooError, match=f"being written by process {os.getpid()}"):
        Run.open(path, writes=True)
    lock(path, boot=None, since=None)  # as an earlier version wrote it
    with pytest.raises(GanzooError, match=f"being written by process {os.getpid()} on this machine; stop that one"):
        Run.open(path, writes=True)
    lock(path, boot="another")
    Run.open(path, writes=True).close()


def test_another_machine_is_named_with_the_time(path):
    lock(path, host="elsewhere", boot="another", since="2026-01-02 03:04:05 +0000")
    with pytest.raises(GanzooError, match=r"process \d+ on elsewhere, since 2026-01-02 03:04:05 \+0000; if that one"):
        Run.open(path, writes=True)
    assert (path / "lock").exists()


@pytest.mark.parametrize("seconds", [-86_400, 86_400])
def test_a_clock_that_jumps_changes_nothing(path, monkeypatch, seconds):
    now: Callable[[], float] = time.time
    pid = living(path)
    try:
        monkeypatch.setattr(time, "time", lambda: now() + seconds)
        with pytest.raises(GanzooError, match=f"being written by process {pid}"):
            Run.open(path, writes=True)
    finally:
        kill(pid)
    Run.open(path, writes=True).close()


def test_a_run_taken_up_from_a_dead_process_says_so(tmp_path):
    notes: list[str] = []
    out = tmp_path / "run"

    def stop_in_the_midst() -> None:
        save = kills.checkpoints.save

        def die(*args: Any, **more: Any) -> Any:
            save(*args, **more)
            os.kill(os.getpid(), signal.SIGKILL)

        kills.checkpoints.save = die
        kills.train(out)

    assert kills.wait(kills.forked(stop_in_the_midst)) == -signal.SIGKILL

    def go_on() -> None:
        kills.resume(out, kills.ZOO, note=notes.append)
        assert any("has died without finishing" in note for note in notes)

    assert kills.wait(kills.forked(go_on)) == 0
    assert not (out / "lock").exists()


class NoLock:
    """A lock that keeps no other process away."""

    taken_over = False

    def __init__(self, directory: Path, job: str = "") -> None:
        pass

    def release(self) -> None:
        pass


def test_two_that_write_one_run_without_a_lock_spoil_nothing(tmp_path):
    """As on a file system that cannot lock: what they leave is whole, and can be resumed to the same end."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert kills.wait(kills.forked(lambda: kills.train(whole))) == 0

    def play_without_lock() -> None:
        storage_run.Lock = NoLock
        kills.train(out)

    def begin() -> None:
        kills.start(kills.recipe().merged({"length": "2 steps"}), out, kills.ZOO, kills.CPU, note=lambda text: None)
        recipe = out / "recipe.json"
        recipe.write_bytes((whole / "recipe.json").read_bytes())

    assert kills.wait(kills.forked(begin)) == 0
    both = [kills.forked(play_without_lock) for _ in range(2)]
    ends = [kills.wait(pid) for pid in both]
    assert set(ends) <= {0, 1}  # at worst one is told that it is not alone
    found = kills.checkpoints.load_latest(out / "checkpoints")
    assert found is not None
    assert found.notes == []
    expected = kills.left(whole)["state"]
    step = found.meta["step"]
    assert step == kills.STEPS
    assert {name: value.tolist() for name, value in found.tensors.items()} == expected


# --- exclusive: short locks ---


def test_only_one_process_at_a_time_is_inside(tmp_path):
    """The lock file is removed each time, and still no increment of the number is lost."""
    number, lock_file = tmp_path / "number", tmp_path / ".lock"
    number.write_text("0")

    def count() -> None:
        for _ in range(100):
            with exclusive(lock_file) as locked:
                assert locked
                number.write_text(str(int(number.read_text()) + 1))

    assert [kills.wait(pid) for pid in [kills.forked(count) for _ in range(4)]] == [0] * 4
    assert number.read_text() == "400"
    assert not lock_file.exists()


def test_the_one_that_waits_is_called_before_it_waits(tmp_path):
    waited: list[bool] = []
    with exclusive(tmp_path / ".lock", lambda: waited.append(True)):
        assert waited == []

    def hold() -> None:
        with exclusive(tmp_path / ".lock"):
            (tmp_path / "held").touch()
            while not (tmp_path / "go on").exists():
                time.sleep(0.01)

    pid = kills.forked(hold)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with exclusive(tmp_path / ".lock", lambda: (tmp_path / "go on").touch()) as locked:
        assert locked
    assert kills.wait(pid) == 0


def test_where_no_lock_is_possible_the_block_runs(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError), exclusive(tmp_path / "no folder" / ".lock"):
        pass
    assert not (tmp_path / "no folder").exists()

    def fail(*args: Any, **more: Any) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", fail)
    with exclusive(tmp_path / ".lock") as locked:
        assert not locked
    run = Run.create(tmp_path / "run", RECIPE, {})
    run.append("stats.jsonl", {"step": 1, "images": 16, "epoch": 0.5})
    run.close()
    assert run.lines("stats.jsonl") == [{"step": 1, "images": 16, "epoch": 0.5}]


def test_an_error_in_the_block_is_not_hidden(tmp_path):
    with pytest.raises(OSError, match="mine"), exclusive(tmp_path / ".lock"):
        raise OSError("mine")
    assert list(tmp_path.iterdir()) == []


def test_a_guard_left_by_a_killed_process_disturbs_nothing(path, tmp_path):
    (path / GUARD).touch()
    run = Run.open(path, writes=True)
    assert not (path / GUARD).exists()
    run.append("stats.jsonl", {"step": 1, "images": 16, "epoch": 0.5})
    run.close()
    assert sorted(file.name for file in path.iterdir()) == ["environment.json", "recipe.json", "stats.jsonl"]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / GUARD).touch()
    Run.create(tmp_path / "new", RECIPE, {}).close()
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["environment.json", "recipe.json"]


def test_a_copy_of_a_run_that_is_being_written_is_free(path):
    pid = living(path)
    try:
        copied = path.parent / "copied"
        shutil.copytree(path, copied)
        run = Run.open(copied, writes=True)
        assert not run.taken_over  # no process has died
        run.close()
        path.rename(path.parent / "renamed")
        with pytest.raises(GanzooError, match=f"is being written by process {pid}"):
            Run.open(path.parent / "renamed", writes=True)
    finally:
        kill(pid)
