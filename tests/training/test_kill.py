"""kill -9 at any moment: the run can be resumed, and ends like one that was never killed, bit for bit.

50 kills here, 1,000 by `make torture` (GANZOO_KILLS).
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import kills
import pytest

from ganzoo.storage import checkpoints

KILLS = int(os.environ.get("GANZOO_KILLS", "50"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """What a run that is not killed leaves, and how many seconds it takes."""
    seconds = []
    for attempt in range(2):  # the first one fills the caches
        out = tmp_path_factory.mktemp("undisturbed") / f"run{attempt}"
        since = time.perf_counter()
        assert kills.wait(kills.forked(lambda: kills.train(out))) == 0  # noqa: B023
        seconds.append(time.perf_counter() - since)
    return kills.left(out), seconds[-1]


def test_every_killed_run_ends_like_one_that_was_never_killed(undisturbed, tmp_path, capsys):
    expected, seconds = undisturbed
    rng, killed, runs = random.Random(2026), 0, 0
    while killed < KILLS:
        out = tmp_path / f"run{runs}"
        killed += kills.kill_until_done(out, rng, 1.1 * seconds)
        runs += 1
        assert kills.left(out) == expected, f"run {runs}, after {killed} kills in all"
    with capsys.disabled():
        print(f"\n{killed} kills in {runs} runs: all resumed, all the same bit for bit")  # noqa: T201


def test_what_a_kill_leaves_at_the_very_end_is_removed_by_the_next_resume(undisturbed, tmp_path):
    """Killed between the last checkpoint and the removal of those it replaces: nothing is left to train."""
    expected, _ = undisturbed
    out: Path = tmp_path / "run"
    assert kills.wait(kills.forked(lambda: kills.train(out))) == 0
    folder = out / "checkpoints"
    last = checkpoints.load_latest(folder)
    assert last is not None
    checkpoints.save(folder, "000000176", last.tensors, {**last.meta, "step": last.meta["step"] - 3}, keep=9)
    (folder / ".del-000000184-5c1e").mkdir()
    (folder / ".tmp-5c1e").mkdir()
    assert kills.left(out) != expected
    assert kills.wait(kills.forked(lambda: kills.train(out))) == 0
    assert kills.left(out) == expected


def test_the_comparison_sees_a_difference(undisturbed, tmp_path):
    """A run without its last line of statistics is different, so the tests above can fail."""
    expected, _ = undisturbed
    out: Path = tmp_path / "run"
    assert kills.wait(kills.forked(lambda: kills.train(out))) == 0
    assert kills.left(out) == expected
    lines = (out / "stats.jsonl").read_text().splitlines(keepends=True)
    (out / "stats.jsonl").write_text("".join(lines[:-1]))
    assert kills.left(out) != expected
