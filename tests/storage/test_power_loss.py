"""The power goes: after any operation of a run, whatever part of what was not synced is gone, nothing is lost.

A model, not hardware. `powerloss.py` says what it takes for certain.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kills
import pytest
from powerloss import Disk, Operation, Stage, Tape, states

from ganzoo import GanzooError, UsageError
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.train import resume, start

#: random choices among the pending changes of directories, beside none and all of them
SUBSETS = 3


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Operation], Path, dict[str, Any]]:
    """The operations of a whole run, where it lies, and what it leaves."""
    root = tmp_path_factory.mktemp("recorded")
    tape = Tape(root)
    save, create = checkpoints.save, Run.create

    def marked_save(folder: Path, name: str, *args: Any, **more: Any) -> Path:
        path = save(folder, name, *args, **more)
        tape.mark("saved", int(name))
        return path

    def marked_create(*args: Any) -> Run:
        run = create(*args)
        tape.mark("created")
        return run

    with pytest.MonkeyPatch.context() as patch, tape.recording():
        patch.setattr(checkpoints, "save", marked_save)
        patch.setattr(Run, "create", marked_create)
        length = {"length": "5 steps", "checkpoint_every": "1 steps", "samples_every": "2 steps"}
        start(kills.recipe().merged(length), root / "run", kills.ZOO, kills.CPU, note=lambda text: None)
    return tape.operations, root, kills.left(root / "run")


def test_the_record_is_complete(recorded):
    """Played again, it gives the files that are there: no way to the disk was overlooked."""
    operations, root, _ = recorded
    disk = Disk()
    for operation in operations:
        disk.do(operation)
    found = disk.after_power_loss(lambda: True, "all")
    there = {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}
    assert found == there
    assert [mark[0] for mark in disk.marks] == ["created", *["saved"] * 5]


def owed(run: Path, images: int, expected: dict[str, Any]) -> list[str]:
    """What is missing of a run in `run` that has saved a checkpoint at `images` images; 0 if it was only created."""
    reading = Run.open(run)
    _ = reading.environment
    saved = checkpoints.load_latest(run / "checkpoints")
    if (saved.meta["images"] if saved else 0) < images:
        return [f"the checkpoint at {images} images"]
    if saved is None:
        return []
    step, images = saved.meta["step"], saved.meta["images"]
    lost = []
    for name in ("stats", "scores"):
        lines = [line["step"] for line in reading.lines(f"{name}.jsonl") if line["step"] <= step]
        steps = sorted({line["step"] for line in _lines(expected, name) if line["step"] <= step})
        # a score of the moment itself is made again
        due = [s for s in steps if name == "stats" or s < step]
        lost += [f"{name} of step {s}" for s in due if s not in lines]
    for file, data in expected["files"].items():
        folder, name = file.split("/")
        path = run / folder / name
        at = int(path.stem)
        if (at <= images) and (not path.is_file() or path.read_bytes() != data):
            lost.append(file)
    return lost


def _lines(expected: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [json.loads(line) if isinstance(line, str) else line for line in expected[name]]


def survey(
    operations: list[Operation], expected: dict[str, Any], folder: Path, at_most: int = 10**9
) -> tuple[int, dict[str, int], list[Path]]:
    """How many states there are, how often what is lost, and copies of some states that must be resumable."""
    disk, rng, seen, lost, kept = Disk(), random.Random(7), set(), {}, []
    stage = Stage(folder / "stage")
    for operation in operations:
        disk.do(operation)
        created = bool(disk.marks)
        saved = max((mark[1] for mark in disk.marks if mark[0] == "saved"), default=0)
        for state in states(disk, rng, SUBSETS):
            key = hash((saved, created, *sorted(state.items())))
            if key in seen:
                continue
            seen.add(key)
            stage.show(state)
            for what in _what_is_lost(stage.folder / "run", created, saved, expected):
                lost[what] = lost.get(what, 0) + 1
            if len(seen) % 97 == 0 and created:
                kept.append(shutil.copytree(stage.folder / "run", folder / str(len(seen))))
            if len(lost) >= at_most:
                return len(seen), lost, kept
    return len(seen), lost, kept


def _what_is_lost(run: Path, created: bool, saved: int, expected: dict[str, Any]) -> list[str]:
    try:
        return owed(run, saved, expected)
    except UsageError as error:  # there is no run
        if created:
            return [f"the run: {str(error).replace(str(run), 'RUN')}"]
        Run.refuse_taken(run)  # nothing is in the way of another
        return []
    except GanzooError as error:
        return [str(error).replace(str(run), "RUN")]


def _reboot(run: Path) -> None:
    """The lock that is left, if it is whole, is of another boot."""
    with contextlib.suppress(OSError, ValueError):
        (run / "lock").write_text(json.dumps({**json.loads((run / "lock").read_text()), "boot": "the one before"}))


def test_no_state_is_lost(recorded, tmp_path, capsys):
    operations, _, expected = recorded
    count, lost, kept = survey(operations, expected, tmp_path)
    assert lost == {}
    assert count > 500
    for run in random.Random(1).sample(kept, 4):  # and those that came through end as if nothing had been
        _reboot(run)
        resume(run, kills.ZOO, note=lambda text: None)
        assert kills.left(run) == expected
    with capsys.disabled():
        print(f"\n{len(operations)} operations, {count} states after a loss of power, 0 lost")  # noqa: T201


@pytest.mark.parametrize(
    "is_left_out",
    [
        lambda place: Path(place).suffix in (".safetensors", ".json") and ".tmp-" in place,
        lambda place: place == "run/checkpoints",
        lambda place: place == "run/stats.jsonl",
        lambda place: place == "run",
    ],
    ids=["files of a checkpoint", "directory of checkpoints", "stats", "directory of the run"],
)
def test_without_a_sync_the_same_model_finds_losses(recorded, tmp_path, is_left_out: Callable[[str], bool]):
    operations, _, expected = recorded
    fewer = [o for o in operations if not (o[0] == "fsync" and is_left_out(o[1]))]
    assert len(fewer) < len(operations)
    _, lost, _ = survey(fewer, expected, tmp_path, at_most=1)
    assert lost
