"""Launchers: the same grid on all of them, what is killed, and what is refused. Each is started for real."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
from helpers import ZOO, ganzoo, plan_trials
from ray_cluster import ray_cluster

from ganzoo import Choice, GanzooError, Job, LaunchRequest, UsageError
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial
from ganzoo.experiments.run_grid import benchmark, build_launcher
from ganzoo.experiments.trial_runner import TrialRunner
from ganzoo.experiments.worker import release_stale_lock
from ganzoo.storage.lock import Lock
from ganzoo_plugins.launchers import _node
from ganzoo_plugins.launchers.local import Local

TINY, BRIGHTNESS = f"{tiny.__file__}:Tiny", f"{tiny.__file__}:Brightness"
DATASETS = ("digits:size=8", "digits:size=10")
#: the launchers, as a test starts them; of the second one of Ray, no node shares the output folder
LOCAL, SLURM = "local", "slurm:cluster=local,threads=1"
RAY, RAY_FAR = "ray:threads=1", "ray:threads=1,shared=false,sync_seconds=0.5"


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    """A Ray cluster of this process with two CPUs, which all tests of this module share."""
    with ray_cluster(2):
        yield


def _need(launcher: str, request: pytest.FixtureRequest) -> None:
    """Skip where the library of a launcher is missing; start the cluster of Ray."""
    if launcher.startswith("ray"):
        request.getfixturevalue("_cluster")
    if launcher.startswith("slurm"):
        pytest.importorskip("submitit")


def trials(seeds: Sequence[int], datasets: Sequence[str] = DATASETS, **changes: Any) -> list[Trial]:
    fields = {"length": "6 steps", "score_samples": 20, "batch_size": 16, **changes}
    chosen = [Choice(TINY), Choice.parse(f"{TINY}:width=4")]
    return plan_trials(
        ZOO, chosen, [Choice.parse(text) for text in datasets], [Choice(BRIGHTNESS)], seeds, None, fields
    )


def rows(grid: list[Trial], out: Path, launcher: str, **more: Any) -> list[dict[str, Any]]:
    found = benchmark(
        ZOO, grid, out, "cpu", launcher=Choice.parse(launcher), note=more.pop("note", lambda text: None), **more
    )
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def _same_table(grid: list[Trial], tmp_path: Path, launchers: Sequence[str]) -> None:
    tables = {name: rows(grid, tmp_path / str(number), name, jobs=2) for number, name in enumerate(launchers)}
    first = tables[launchers[0]]
    assert sum(row["seeds"] for row in first if row["score"] == "brightness") == len(grid)
    for name, found in tables.items():
        assert found == first, name


@pytest.mark.parametrize("launcher", [RAY, RAY_FAR, SLURM])
def test_the_same_grid_has_the_same_scores(launcher: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    _need(launcher, request)
    _same_table(trials([0], DATASETS[:1]), tmp_path, (LOCAL, launcher))


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
def test_a_real_grid_has_the_same_scores(tmp_path: Path) -> None:
    """2 architectures, 2 datasets, 3 seeds."""
    pytest.importorskip("submitit")
    _same_table(trials([0, 1, 2]), tmp_path, (LOCAL, RAY, RAY_FAR, SLURM))


# --- what is killed ---


def _children(process: int) -> list[int]:
    """The workers of trials that run below this process, directly or not."""
    parents: dict[int, int] = {}
    workers = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if b"ganzoo.experiments.worker" in (entry / "cmdline").read_bytes():
                workers.append(int(entry.name))
        except (OSError, ValueError, IndexError):
            continue
    found = []
    for worker in workers:
        above: int | None = worker
        while above and above != process:
            above = parents.get(above)
        if above == process:
            found.append(worker)
    return found


def _command(out: Path, launcher: str, seeds: str, steps: int) -> list[str]:
    command = [sys.executable, "-m", "ganzoo", "benchmark", "-a", TINY, "-a", f"{TINY}:width=4", "-d", DATASETS[0]]
    command += ["-e", BRIGHTNESS, "--seeds", seeds, "--steps", str(steps), "--samples", "20", "--device", "cpu"]
    return [*command, "--jobs", "2", "--launcher", launcher, "--out", str(out), "--json"]


def _kill_until_done(out: Path, launcher: str, seeds: str, steps: int, workers: int, drivers: int) -> dict[str, int]:
    """Run a grid to its end; so many of its workers and drivers are killed at random moments. Returns what happened."""
    rng, done = random.Random(0), dict[str, int]()
    counts = {"workers": 0, "drivers": 0, "starts": 0, "finished again": 0}
    while True:
        driver = subprocess.Popen(_command(out, launcher, seeds, steps), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        counts["starts"] += 1
        assert counts["starts"] < 100
        next_kill = time.monotonic() + rng.uniform(0.5, 4)
        victim_is_driver = counts["drivers"] < drivers and rng.random() < drivers / (workers + drivers)
        while driver.poll() is None:
            for path in out.glob("cells/*/done.json"):
                changed = path.stat().st_mtime_ns
                counts["finished again"] += done.get(path.parent.name, changed) != changed
                done[path.parent.name] = changed
            running = _children(driver.pid)
            if running and time.monotonic() > next_kill:
                if victim_is_driver:
                    driver.kill()
                    counts["drivers"] += 1
                elif counts["workers"] < workers:
                    os.kill(rng.choice(running), signal.SIGKILL)
                    counts["workers"] += 1
                next_kill = time.monotonic() + rng.uniform(0.5, 4)
                victim_is_driver = counts["drivers"] < drivers and rng.random() < drivers / (workers + drivers)
            time.sleep(0.02)
        _, errors = driver.communicate()
        if driver.returncode == 0 and json.loads((out / "table.json").read_text())[0]["seeds"] == len(seeds.split(",")):
            table = json.loads((out / "table.json").read_text())
            if all(row["seeds"] == len(seeds.split(",")) for row in table):
                return counts
        assert driver.returncode in (0, 1, -signal.SIGKILL), errors.decode()
        assert b"Traceback" not in errors, errors.decode()


def _converges(out: Path, launcher: str, seeds: str, steps: int, workers: int, drivers: int) -> dict[str, int]:
    counts = _kill_until_done(out / "killed", launcher, seeds, steps, workers, drivers)
    undisturbed = subprocess.run(_command(out / "whole", LOCAL, seeds, steps), capture_output=True, check=True)
    whole = json.loads(undisturbed.stdout)["rows"]
    killed = json.loads((out / "killed" / "table.json").read_text())
    for row in (*whole, *killed):
        del row["seconds"]
    assert killed == whole
    assert counts["finished again"] == 0
    return counts


def test_a_grid_whose_workers_and_driver_are_killed_converges(tmp_path: Path) -> None:
    counts = _converges(tmp_path, LOCAL, "0", 300, workers=1, drivers=1)
    assert counts["workers"] + counts["drivers"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [LOCAL, RAY])
def test_twenty_killed_workers_and_ten_killed_drivers(launcher: str, tmp_path: Path, capsys: Any) -> None:
    if launcher == RAY:
        pytest.importorskip("ray")
    counts = _converges(tmp_path, launcher, "0,1,2,3,4,5,6,7", 1500, workers=20, drivers=10)
    with capsys.disabled():
        sys.stdout.write(f"\n{launcher}: {counts}\n")


def test_a_stale_lock_of_another_machine_is_taken_over(tmp_path: Path) -> None:
    Lock(tmp_path)
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "host": "another-node"}))
    told: list[str] = []
    release_stale_lock(tmp_path, told.append, unchanged=0.2, poll=0.05)
    assert not lock.exists()
    assert "another-node" in told[-1]
    Lock(tmp_path)
    release_stale_lock(tmp_path, told.append, unchanged=0.2, poll=0.05)
    assert lock.exists()  # that of a process of this machine is left to the run


def test_files_of_a_trial_travel_as_bytes(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    run = here / "runs" / "a"
    (run / "checkpoints" / "1").mkdir(parents=True)
    (run / "checkpoints" / "1" / "state").write_bytes(b"1")
    (run / "stats.jsonl").write_text("1\n")
    (run / "lock").write_text("mine")
    known: _node.Known = {}
    _node.unpack(there, ("runs/a",), *_node.pack(here, ("runs/a",), known))
    assert (there / "runs/a/checkpoints/1/state").read_bytes() == b"1"
    assert not (there / "runs/a/lock").exists()
    (run / "checkpoints" / "2").mkdir()
    (run / "checkpoints" / "2" / "state").write_bytes(b"2")
    (run / "checkpoints" / "1" / "state").unlink()
    names, data = _node.pack(here, ("runs/a",), known)
    assert b"stats.jsonl" not in data  # it has not changed
    _node.unpack(there, ("runs/a",), names, data)
    assert sorted(path.name for path in (there / "runs/a/checkpoints").iterdir()) == ["2"]
    assert (there / "runs/a/stats.jsonl").read_text() == "1\n"
    with pytest.raises(ValueError, match="no file of this trial"):
        _node.unpack(there, ("runs/b",), names, data)


# --- what is asked for ---


def _open(launcher: str, tmp_path: Path, **request: Any) -> tuple[Any, int]:
    built = build_launcher(ZOO, Choice.parse(launcher))
    return built, built.open(LaunchRequest(folder=tmp_path, cores=4, **{"note": lambda text: None, **request}))


def test_threads_are_those_of_the_user_or_a_share_of_the_cores(tmp_path: Path) -> None:
    assert _open("local", tmp_path, jobs=2)[1] == 2
    assert _open("local", tmp_path, jobs=2, threads=3)[1] == 3
    assert _open("local:threads=1", tmp_path, jobs=2, threads=3)[1] == 1


def test_omp_num_threads_of_the_user_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path / "grid")
    (trial, *_) = trials([0], DATASETS[:1])
    for value, threads in (("3", "3"), ("nonsense", "7")):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        monkeypatch.setattr("ganzoo.experiments.trial_runner.available_cores", lambda: 7)
        with folder.taken(), TrialRunner(ZOO, folder, Local(), device="cpu", note=print) as runner:
            assert runner.job(trial).environment["OMP_NUM_THREADS"] == threads


def test_a_trial_that_does_not_fit_into_memory_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, told = [10 * 2**30], list[str]()
    monkeypatch.setattr("ganzoo_plugins.launchers.local.free_memory", lambda: free[0])
    launcher, _ = _open("local:memory=3", tmp_path, jobs=4, note=told.append)
    sleeps = ("-c", "import time; time.sleep(10**6)")
    try:
        launcher.start(Job("a", sleeps, tmp_path))
        assert launcher.ready()
        launcher.start(Job("b", sleeps, tmp_path))
        free[0] = 5 * 2**30
        assert not launcher.ready()
        assert not launcher.ready()
        assert len(told) == 1
        assert "fewer than 4 trials run at a time" in told[0]
    finally:
        launcher.close()
    assert launcher.ready()  # one alone always runs
    with pytest.raises(GanzooError, match="asks for 6 GiB"):
        _open("local:memory=6", tmp_path)


def test_trials_share_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo_plugins.launchers.local._gpus", lambda: ["3", "5"])
    launcher, _ = _open("local:per_gpu=2", tmp_path, jobs=9, device="cuda")
    prints = ("-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
    for number in range(4):
        assert launcher.ready()
        launcher.start(Job(str(number), prints, tmp_path, log=f"{number}.log"))
    assert not launcher.ready()
    while launcher.running:
        launcher.ended()
    assert [(tmp_path / f"{number}.log").read_text().strip() for number in range(4)] == ["3", "5", "3", "5"]


@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ("ray:threads=64", "A trial asks for 64 CPU, and the largest node of the Ray cluster has 2"),
        ("ray:gpus=1", "A trial asks for 1 GPU"),
        ("ray:memory=100000", "A trial asks for 100000 GiB of memory"),
        ("ray:resource=tpu-pod", "has the resource 'tpu-pod'; there are: CPU"),
    ],
)
def test_a_request_larger_than_the_cluster_is_refused(launcher: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(GanzooError, match=words):
        _open(launcher, tmp_path)


def test_an_address_nobody_answers_at_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(GanzooError, match=f"Nothing answers at 127.0.0.1:{port}"):
        _open(f"ray:address=127.0.0.1:{port}", tmp_path)
    for address in ("somewhere", "ray://node:10001", "node:"):
        with pytest.raises(UsageError, match="is no address of a Ray cluster"):
            _open(f"ray:address={address}", tmp_path)


@pytest.mark.parametrize(("launcher", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_library_is_named(
    launcher: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GanzooError, match=rf"pip install 'torch-ganzoo\[{launcher}\]'"):
        _open(launcher, tmp_path)


def test_without_slurm_the_launcher_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GanzooError, match="no command sbatch"):
        _open("slurm", tmp_path)


def test_a_node_with_other_versions_or_without_a_file_is_named(tmp_path: Path) -> None:
    assert _node.fault(_node.versions(), {}) == ""
    assert "and this machine has 0.0.1" in _node.fault({"torch": "0.0.1"}, {})
    assert f"has no {tmp_path}/data" in _node.fault({}, {f"{tmp_path}/data": ""})
    (tmp_path / "part.py").write_text("1")
    assert "has another" in _node.fault({}, {f"{tmp_path}/part.py": "0" * 64})


def test_a_job_names_what_it_reads(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "grid")
    (trial, *_) = trials([0], DATASETS[:1])
    with folder.taken(), TrialRunner(ZOO, folder, Local(), device="cpu") as runner:
        assert str(Path(tiny.__file__).resolve()) in runner.job(trial).inputs


@pytest.mark.parametrize("command", [["-a", "mlp-vanilla", "-d", "digits:size=8", "--launcher", "rai"]])
def test_an_unknown_launcher_is_a_usage_error(command: list[str], tmp_path: Path) -> None:
    result = ganzoo("benchmark", *command, "--out", tmp_path / "grid")
    assert result.exit_code == 2
    assert "There is no launcher 'rai'. Did you mean 'ray'?" in result.stderr
