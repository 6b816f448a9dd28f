"""The cache, under several processes that are killed: a result is complete or absent, and never that of other facts."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from kills import CPU, forked, wait

from ganzoo.storage.cache import Cache

STATISTICS = Cache("statistics")
SETS = 4
READERS = 8


def facts(number: int) -> dict[str, int]:
    return {"images": number}


def known(number: int) -> dict[str, torch.Tensor]:
    """Half a megabyte that only these facts have: long enough to be killed over."""
    return {
        "mean": torch.full((256,), float(number)),
        "covariance": torch.full((256, 256), number, dtype=torch.float64),
    }


def read_and_write(seed: int, times: int) -> None:
    """What evaluations do: read what is known, and keep it where nobody has. Now and then it is lost again."""
    rng = random.Random(seed)
    for _ in range(times):
        number = rng.randrange(SETS)
        found = STATISTICS.load_tensors(facts(number), CPU)
        if found is None:
            STATISTICS.save_tensors(facts(number), known(number))
        else:
            expected = known(number)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in expected)
        if rng.random() < 0.2:
            STATISTICS.path_of(facts(number)).unlink(missing_ok=True)


def test_many_processes_share_a_cold_cache_and_some_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 reads by those that live, among others killed at any instant: none is of a half or of another file."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    rng = random.Random(0)
    living = [forked(lambda seed=seed: read_and_write(seed, 1000 // READERS)) for seed in range(READERS)]
    for seed in range(10):
        doomed = forked(lambda seed=seed: read_and_write(100 + seed, 10**9))
        time.sleep(rng.uniform(0.02, 0.1))
        os.kill(doomed, signal.SIGKILL)
        assert wait(doomed) == -signal.SIGKILL
    assert [wait(pid) for pid in living] == [0] * READERS
    for number in range(SETS):
        STATISTICS.save_tensors(facts(number), known(number))
    assert len(list((tmp_path / "statistics").iterdir())) == SETS
    read_and_write(1, 20)


def test_a_flipped_bit_counts_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    rng, path = random.Random(0), STATISTICS.path_of(facts(1))
    STATISTICS.save_tensors(facts(1), known(1))
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        assert STATISTICS.load_tensors(facts(1), CPU) is None
    path.write_bytes(whole)
    assert STATISTICS.load_tensors(facts(2), CPU) is None
    path.rename(STATISTICS.path_of(facts(2)))  # as if two digests were the same
    assert STATISTICS.load_tensors(facts(2), CPU) is None


def test_scores_come_back_for_their_facts_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    calibration, scores = Cache("calibration"), {"fid": {"value": 1.5, "better": "lower"}}
    assert calibration.load_scores(facts(1)) is None
    calibration.save_scores(facts(1), scores)
    assert calibration.load_scores(facts(1)) == scores
    path = calibration.path_of(facts(1), ".json")
    assert path.parent == tmp_path / "calibration"
    content = json.loads(path.read_text())
    assert content["facts"] == facts(1)
    assert content["scores"] == scores
    assert path.read_text() == json.dumps(content, indent=1)
    path.rename(calibration.path_of(facts(2), ".json"))
    assert calibration.load_scores(facts(2)) is None
    assert calibration.load_scores(facts(1)) is None


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file"))
    STATISTICS.save_tensors(facts(1), known(1))
    STATISTICS.save_scores(facts(1), {})
    assert STATISTICS.load_tensors(facts(1), CPU) is None
    assert STATISTICS.load_scores(facts(1)) is None
