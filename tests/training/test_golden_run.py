"""A run of each released version can be opened, resumed and sampled with this version."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ZOO, sample
from make_golden_run import GOLDEN, make

from ganzoo import Amount
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.train import resume

CPU = torch.device("cpu")
RUNS = sorted(path for path in GOLDEN.glob("checkpoint-*") if path.is_dir())


@pytest.fixture(params=RUNS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden run; the one in the repository is never written."""
    return Path(shutil.copytree(request.param, tmp_path / request.param.name))


def test_there_is_one() -> None:
    assert RUNS
    for run in RUNS:
        files = [path for path in run.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 100_000
        assert not (run / "lock").exists()
        assert not [path for path in files if b"/home/" in path.read_bytes() or b"/root/" in path.read_bytes()]


def test_it_opens(golden: Path) -> None:
    run = Run.open(golden)
    assert str(run.recipe.length) == "8 steps"
    assert run.environment["versions"]["torch-ganzoo"] == golden.name.removeprefix("checkpoint-")
    assert [line["step"] for line in run.lines("stats.jsonl")] == [2, 4, 6, 8]
    assert [checkpoints.load(path)[1]["step"] for path in sorted((golden / "checkpoints").iterdir())] == [4, 8]


def test_it_samples_the_same_images(golden: Path, tmp_path: Path) -> None:
    """Within one level of grey: other machines may add in another order."""
    expected = np.load(GOLDEN / f"{golden.name}.npy", allow_pickle=False)
    found = np.load(sample(golden, ZOO, CPU, tmp_path / "images.npy", seed=3), allow_pickle=False)
    assert found.shape == expected.shape == (6, 1, 8, 8)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert expected.std() > 1
    sample(golden, ZOO, CPU, animate=True)


def test_it_can_be_resumed(golden: Path) -> None:
    before = checkpoints.load_latest(golden / "checkpoints")
    assert before is not None
    _, progress = resume(golden, ZOO, length=Amount(12, "steps"), note=lambda text: None)
    after = checkpoints.load_latest(golden / "checkpoints")
    assert after is not None
    assert (progress.step, after.meta["step"]) == (12, 12)
    assert after.tensors.keys() == before.tensors.keys()
    assert any(not torch.equal(after.tensors[name], before.tensors[name]) for name in after.tensors)
    assert [line["step"] for line in Run.open(golden).lines("stats.jsonl")] == [2, 4, 6, 8, 10, 12]


def test_the_script_still_works_and_makes_the_same_twice(tmp_path: Path) -> None:
    """Its result is the golden run of the next release."""
    for name in ("a", "b"):
        make(tmp_path / name)
    first, second = (checkpoints.load_latest(tmp_path / name / "checkpoints") for name in ("a", "b"))
    assert first is not None
    assert second is not None
    assert all(torch.equal(value, second.tensors[name]) for name, value in first.tensors.items())
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
