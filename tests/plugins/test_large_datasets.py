"""Data sets larger than memory, from tar and parquet files: the same batches as in memory, resume, ranks, memory."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import ZOO
from large_sets import picture, samples, write_parquet, write_tar

import ganzoo
from ganzoo import Amount, Choice
from ganzoo.engine import distributed, feed, memory
from ganzoo.engine.feed import Feed
from ganzoo.registry.recipes import plan
from ganzoo.storage import checkpoints
from ganzoo.training.train import resume, start

CPU = torch.device("cpu")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FORMS = ["npy", "shards", "huggingface"]
COUNT = 44


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same grey pictures of three classes in several shards and files."""
    folder = tmp_path_factory.mktemp("large")
    parts = [range(20), range(20, 37), range(37, COUNT)]
    for number, part in enumerate(parts):
        write_tar(folder / "shards" / f"{number}.tar", samples(len(part), part.start, mode="L"))
    return folder


def dataset_of(form: str, folder: Path) -> Choice:
    if form == "huggingface" and not (folder / form).exists():
        pytest.importorskip("datasets", reason="needs the extra huggingface")
        pictures = [picture(number, mode="L") for number in range(COUNT)]
        labels = [number % 3 for number in range(COUNT)]
        write_parquet(folder / form / "0.parquet", pictures[:20], {"label": labels[:20]})
        write_parquet(folder / form / "1.parquet", pictures[20:], {"label": labels[20:]})
    if form == "npy" and not (folder / form).exists():
        ganzoo.convert(dataset_of("shards", folder), "npy", folder / form)
    more = {"test_every": 0} if form == "npy" else {"test_share": 0.0}
    return Choice(form, {"path": str(folder / form), **more})


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set fits into memory."""
    monkeypatch.setattr(memory, "MEMORY_SHARE", 0.0)


def feed_of(form: str, folder: Path, **fields: object) -> Feed:
    recipe = ganzoo.Recipe(**{"batch_size": 6, "seed": 3, **fields})
    return Feed(ZOO.build("datasets", dataset_of(form, folder), split="train"), recipe, 2, (-1.0, 1.0), CPU)


@pytest.mark.parametrize("form", FORMS)
def test_the_order_is_that_of_every_data_set_in_memory_or_not(form, large, monkeypatch):
    resident = feed_of("npy", large)
    monkeypatch.setattr(memory, "MEMORY_SHARE", 0.0)
    held = feed_of(form, large)
    assert type(held._source) is not type(resident._source)
    assert held.fingerprint == resident.fingerprint
    for step in (*range(11), 5, 0):  # three epochs, and back as a replay goes
        for left, right in zip(resident.fill(step), held.fill(step), strict=True):
            assert left.reals.equal(right.reals)
            assert left.labels.equal(right.labels)
    held.close()


@pytest.mark.parametrize("form", FORMS)
def test_each_rank_reads_its_share_alone(form, large, streamed, monkeypatch):
    whole = [
        batch.reals.clone() for step in range(6) for batch in feed_of(form, large, batch_order="stream").fill(step)
    ]
    shares: list[list[torch.Tensor]] = []
    monkeypatch.setattr(feed, "world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(feed, "rank", lambda rank=rank: rank)
        mine = feed_of(form, large, batch_order="stream")
        shares.append([batch.reals.clone() for step in range(6) for batch in mine.fill(step)])
        mine.close()
    assert {len(batch) for share in shares for batch in share} == {3}
    assert all(torch.cat(pair).equal(both) for *pair, both in zip(*shares, whole, strict=True))
    assert distributed.world_size() == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_run_is_resumed_in_mid_epoch_bit_for_bit(form, large, streamed, tmp_path):
    """An epoch is 7.3 steps; 4 steps and 7 more are the same as 11."""
    changes = {"batch_size": 6, "samples_every": "5 steps", "tick_every": "3 steps", "checkpoint_every": "100 steps"}
    states = {}
    for out, length in (("whole", "11 steps"), ("halves", "4 steps")):
        choice = Choice("mlp-vanilla", {})
        recipe = plan(ZOO, choice, dataset_of(form, large), None, {**changes, "length": length})
        start(recipe, tmp_path / out, ZOO, CPU, note=lambda text: None)
    resume(tmp_path / "halves", ZOO, length=Amount(11, "steps"), note=lambda text: None)
    for out in ("whole", "halves"):
        found = checkpoints.load_latest(tmp_path / out / "checkpoints")
        assert found is not None
        states[out] = found[0]
    assert states["whole"].keys() == states["halves"].keys()
    assert [key for key, value in states["whole"].items() if not value.equal(states["halves"][key])] == []


def test_a_changed_shard_is_refused_on_resume(large, tmp_path):
    write_tar(tmp_path / "set" / "0.tar", samples(12, mode="L"))
    data = Choice("shards", {"path": str(tmp_path / "set"), "test_share": 0.0})
    fields = {"batch_size": 6, "length": "2 steps"}
    start(plan(ZOO, Choice("mlp-vanilla", {}), data, None, fields), tmp_path / "run", ZOO, CPU, note=lambda text: None)
    write_tar(tmp_path / "set" / "0.tar", samples(12, 1, mode="L"))
    with pytest.raises(ganzoo.GanzooError, match="have changed since"):
        resume(tmp_path / "run", ZOO, length=Amount(4, "steps"), note=lambda text: None)


# --- memory ---


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("large_datasets")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA limits memory on Linux alone")
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["shards", pytest.param("huggingface", marks=pytest.mark.slow)])
def test_an_epoch_of_four_times_the_limit_keeps_within_it(form, quick, benchmark, tmp_path, monkeypatch):
    """In a process that may use 192 MiB beside what it has after its imports; every allocation beyond fails.

    The set takes four times the limit, or, for a quick test, four times the 192 MiB.
    """
    if form == "huggingface":
        pytest.importorskip("datasets", reason="needs the extra huggingface")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    found = benchmark.measure_memory(tmp_path, form, quick=quick)
    assert found["set"] >= 4 * (benchmark.ROOM if quick else found["limit"])
    own = found["own_over_epoch"]
    assert len(own) >= 8
    assert max(own) < found["limit"]
    assert own[-1] - own[0] < 32 << 20, own  # flat


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_the_limits_of_a_process_count_as_free_memory(monkeypatch, tmp_path):
    import resource

    limits = {resource.RLIMIT_AS: resource.RLIM_INFINITY, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda name: (limits[name], resource.RLIM_INFINITY))
    (tmp_path / "proc" / "self").mkdir(parents=True)
    page = resource.getpagesize()
    (tmp_path / "proc" / "meminfo").write_text(f"MemAvailable: {4000 * page // 1024} kB\n")
    (tmp_path / "proc" / "self" / "statm").write_text("900 5 5 5 0 300 0\n")
    assert memory.free_memory(tmp_path) == 4000 * page
    limits[resource.RLIMIT_AS] = 1000 * page
    assert memory.free_memory(tmp_path) == 100 * page
    limits[resource.RLIMIT_DATA] = 350 * page
    assert memory.free_memory(tmp_path) == 50 * page
    limits[resource.RLIMIT_DATA] = 200 * page
    assert memory.free_memory(tmp_path) == 0


def test_every_form_is_measured(benchmark, tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="needs the extra huggingface")
    monkeypatch.setitem(os.environ, "GANZOO_CACHE", os.environ["GANZOO_CACHE"])
    path = benchmark.main(["--quick", "--results", str(tmp_path), "--scratch", str(tmp_path)])
    speed = json.loads(path.read_text())["speed"]
    assert list(speed) == ["memory", *benchmark.FORMS]
    assert all(row["images_per_second"]["median"] > 0 for row in speed.values())
    assert np.isclose(speed["memory"]["share_of_memory"], 1)
