"""Trainings that torchrun restarts: they continue from the last checkpoint, and no other start does.

Some are real: two agents of torchrun on this machine, and a process or an agent that is killed.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import disturbing
import kills
import pytest
from helpers import ganzoo, tiny_recipe
from kills import together
from test_distributed import TINY, assert_alike, left
from test_distributed import recipe as two_rank_recipe

from ganzoo.api.train import train as api_train
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.storage import checkpoints
from ganzoo.storage.lock import Lock, WrittenByOther
from ganzoo.storage.run import Run
from ganzoo.training import elastic
from ganzoo.training.train import start

PATIENCE = 180.0
JOB = {"TORCHELASTIC_RUN_ID": "job-7", "TORCHELASTIC_MAX_RESTARTS": "3", "GROUP_WORLD_SIZE": "2"}


@contextmanager
def variables(found: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in found}
    os.environ.update(found)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def begin(out: Path, notes: list[str] | None = None, **changes: Any) -> None:
    start(tiny_recipe(**{"subset": "first 64", **changes}), out, kills.ZOO, kills.CPU, note=(notes or []).append)


# --- what lies in --out decides ---


def stopped_run(out: Path) -> Path:
    """A run that is killed after its checkpoint of step 4 of 8."""

    def job(_: int) -> None:
        begin(out, checkpoint_every="2 steps", observers=[f"{disturbing.__file__}:Killer"])

    assert together(job, 1) == [-signal.SIGKILL]
    return out


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    return stopped_run(tmp_path / "run")


def same(out: Path, notes: list[str], **changes: Any) -> None:
    begin(out, notes, checkpoint_every="2 steps", observers=[f"{disturbing.__file__}:Killer"], **changes)


def test_a_start_by_torchrun_continues_an_unfinished_run_of_the_same_recipe(unfinished: Path) -> None:
    def job(_: int) -> None:
        notes = ["begin"]
        with variables({"TORCHELASTIC_RUN_ID": "none"}):
            same(unfinished, notes)
        assert f"{unfinished} holds this run already: it is continued." in notes
        steps = [line["step"] for line in Run.open(unfinished).lines("stats.jsonl")]
        assert steps == [2, 4, 6, 8]

    assert together(job, 1) == [0]


def test_a_start_without_torchrun_is_refused_as_before(unfinished: Path) -> None:
    with pytest.raises(UsageError, match="holds a run already: continue it with `ganzoo resume"):
        same(unfinished, [])


def test_a_run_of_another_recipe_is_not_continued(unfinished: Path) -> None:
    before = {file: file.read_bytes() for file in unfinished.rglob("*") if file.is_file()}
    with variables(JOB), pytest.raises(UsageError, match=r"of another recipe already .seed is 5, there it is 0.: "):
        same(unfinished, [], seed=5)
    assert {file: file.read_bytes() for file in unfinished.rglob("*") if file.is_file()} == before


def test_a_finished_run_is_refused_to_other_jobs_and_left_as_it_is_by_its_own(tmp_path: Path) -> None:
    out = tmp_path / "run"

    def first(_: int) -> None:
        with variables({**JOB, "GROUP_WORLD_SIZE": "1"}):
            begin(out)

    def again(_: int) -> None:
        with variables({"TORCHELASTIC_RUN_ID": "job-8"}), pytest.raises(UsageError, match="has already trained for"):
            begin(out)
        with variables({**JOB, "GROUP_WORLD_SIZE": "1"}):
            begin(out)

    assert together(first, 1) == [0]
    assert Run.open(out).environment["torchrun_job"] == "job-7"
    before = kills.left(out)
    assert together(again, 1) == [0]
    assert kills.left(out) == before


def test_a_restart_needs_a_named_directory() -> None:
    with variables(JOB), pytest.raises(UsageError, match="name its directory with --out DIR"):
        api_train("mlp-vanilla", "digits:size=8", steps=2)


# --- several nodes ---


def test_a_node_that_does_not_see_the_run_ends_all_with_one_sentence(tmp_path: Path) -> None:
    def job(rank: int) -> None:
        elastic._PATIENCE = 0.2
        with variables(JOB):
            try:
                begin(tmp_path / f"node{rank}" / "run")
            except GanzooError as error:
                (tmp_path / f"error{rank}").write_text(str(error))
                os._exit(error.exit_code)

    assert together(job, 2) == [1, 1]
    assert (tmp_path / "error0").read_text() == ""
    sentence = (tmp_path / "error1").read_text()
    assert re.match(
        "Rank 1 on .* does not see the same run in .*node1.* as rank 0: name an --out on a file system", sentence
    )
    assert not (tmp_path / "node0" / "run").exists()  # nothing was trained, so that nothing blocks the next start


def test_a_first_process_without_the_run_does_not_begin_anew(tmp_path: Path) -> None:
    """The node of rank 0 may be another one after a restart."""
    stopped_run(tmp_path / "node1")

    def job(rank: int) -> None:
        with variables(JOB):
            try:
                same(tmp_path / f"node{rank}", [])
            except GanzooError as error:
                os._exit(40 + rank if "does not see the same run" in str(error) else error.exit_code)

    assert together(job, 2) == [1, 41]
    assert not (tmp_path / "node0").exists()


def test_all_ranks_take_the_checkpoint_of_the_first(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 passes over a damaged checkpoint; the other would have read it a moment before."""

    def job(rank: int) -> None:
        load = checkpoints.load_latest

        def spoilt(folder: Path, step: int | None = None) -> checkpoints.Saved | None:
            return load(folder, 2 if rank == 0 else step)

        checkpoints.load_latest = spoilt
        with variables(JOB):
            same(unfinished, [])

    assert together(job, 2) == [0, 0]
    assert [line["step"] for line in Run.open(unfinished).lines("stats.jsonl")] == [2, 4, 6, 8]


def test_a_rank_that_finds_another_checkpoint_ends_all_with_one_sentence(unfinished: Path, tmp_path: Path) -> None:
    def job(rank: int) -> None:
        load = checkpoints.load_latest
        checkpoints.load_latest = lambda folder, step=None: load(folder, 2 if rank else step)
        with variables(JOB):
            try:
                same(unfinished, [])
            except GanzooError as error:
                (tmp_path / f"error{rank}").write_text(str(error))
                os._exit(error.exit_code)

    assert together(job, 2) == [1, 1]
    assert "does not find the checkpoint of step 4" in (tmp_path / "error1").read_text()


# --- the lock ---


def test_a_lock_of_the_same_job_on_another_machine_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "node-1")
        Lock(tmp_path, "job-7")
    for job in ("", "job-8"):
        with pytest.raises(GanzooError, match=r"is locked by process .* on node-1"):
            Lock(tmp_path, job)
    assert Lock(tmp_path, "job-7").taken_over


def test_the_writer_of_a_restart_waits_for_the_one_before_it(unfinished: Path) -> None:
    """The process of an agent that was killed may live for some seconds."""
    elder = kills.forked(lambda: (Lock(unfinished, "job-7"), time.sleep(1.5)))
    while "job-7" not in ((unfinished / "lock").read_text() if (unfinished / "lock").exists() else ""):
        time.sleep(0.05)
    with pytest.raises(WrittenByOther):
        elastic.open_to_write(unfinished)  # of another job
    reaper = threading.Thread(target=kills.wait, args=(elder,))
    reaper.start()
    with variables(JOB):
        started = time.monotonic()
        run = elastic.open_to_write(unfinished)
    assert time.monotonic() - started > 0.3
    run.close()
    reaper.join()


# --- advice ---


def test_the_shared_store_is_named_before_it_fails_a_restart() -> None:
    with variables({**JOB, "TORCHELASTIC_USE_AGENT_STORE": "True"}):
        job = elastic.Job.current()
    assert job is not None
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in job.advice
    with variables({**JOB, "TORCHELASTIC_USE_AGENT_STORE": "False"}):
        job = elastic.Job.current()
    assert job is not None
    assert job.advice == ""


def test_doctor_says_what_restarts_over_several_nodes_need() -> None:
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where each torchrun starts" in ganzoo("doctor").output
    with variables({"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}):
        assert "ready for elastic restarts" in ganzoo("doctor").output


# --- two agents of torchrun ---


class Agents:
    """Two agents of torchrun with one process each, as on two machines that share a folder."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        launch = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"]
        launch += ["--rdzv-backend", "c10d", "--rdzv-id", "job-7", "--rdzv-endpoint", f"localhost:{port}"]
        launch += ["--rdzv-conf", "join_timeout=120,keep_alive_interval=1", "--monitor-interval", "0.1"]
        self._command = [sys.executable, *launch, "-m", "ganzoo", *arguments]
        self._folder = folder
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, number: int) -> None:
        """Start the agent of this number, once more if it was killed."""
        extra = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        with open(self._folder / f"agent{number}.txt", "a") as file:
            process = subprocess.Popen(
                self._command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **extra},
                start_new_session=True,
            )
        self.running[number : number + 1] = [process]

    def worker(self, number: int) -> int:
        """The process that the agent of this number has started."""
        pid = self.running[number].pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next(int(child) for child in found if b"RANK=" in Path(f"/proc/{child}/environ").read_bytes())

    def said(self) -> str:
        """The outputs of both."""
        return "\n".join(file.read_text() for file in sorted(self._folder.glob("agent*.txt")))

    def wait(self) -> list[int]:
        """Their exit statuses."""
        return [process.wait(PATIENCE) for process in self.running]

    def end(self) -> None:
        """Kill what is left."""
        for process in self.running:
            with_children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            children = with_children.read_text().split() if with_children.exists() else []
            for pid in [process.pid, *map(int, children)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def run_on_two_agents(folder: Path, disturb: Callable[[Agents, Path], None], steps: int) -> Path:
    """A run by two agents that `disturb` is called with, finished."""
    out = folder / "run"
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(two_rank_recipe(length=f"{steps} steps", checkpoint_every="2 steps").to_toml())
    slow = ["--observer", f"{disturbing.__file__}:Slow"]
    agents = Agents(folder, ["train", *TINY, "--recipe", str(folder / "recipe.toml"), *slow, "--out", str(out)])
    try:
        agents.start(0)
        agents.start(1)
        disturb(agents, out)
        assert agents.wait() == [0, 0], agents.said()
    finally:
        agents.end()
    return out


def wait_for_checkpoint(agents: Agents, out: Path, after: int = 0) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any(
        int(path.name) > after for path in out.glob("checkpoints/[0-9]*") if (path / "MANIFEST.json").exists()
    ):
        assert time.monotonic() < deadline, agents.said()
        assert all(process.poll() is None for process in agents.running), agents.said()
        time.sleep(0.05)


def kill_worker(number: int) -> Callable[[Agents, Path], None]:
    def disturb(agents: Agents, out: Path) -> None:
        wait_for_checkpoint(agents, out)
        os.kill(agents.worker(number), signal.SIGKILL)

    return disturb


def kill_agent(agents: Agents, out: Path) -> None:
    """The second one, because the first one holds the store of the rendezvous; then it is started again."""
    wait_for_checkpoint(agents, out)
    agents.running[1].kill()
    agents.running[1].wait()
    time.sleep(3)
    agents.start(1)


def undisturbed(agents: Agents, out: Path) -> None:
    wait_for_checkpoint(agents, out)


def assert_same_as_undisturbed(out: Path, reference: Path) -> None:
    """The same numbers to the last bit, and the lines; a process that was asked to end may have left a generator."""
    (numbers, files, lines), (others, other_files, other_lines) = left(reference), left(out)
    assert numbers.keys() <= others.keys()
    assert [name for name, value in numbers.items() if not (others[name] == value).all()] == []
    assert lines == other_lines
    assert set(files) <= set(other_files)
    assert {file.partition("/")[0] for file in set(other_files) - set(files)} <= {"generators", "samples"}


def test_a_worker_of_two_agents_is_killed_and_the_run_is_that_of_one_process(tmp_path: Path) -> None:
    out = run_on_two_agents(tmp_path / "two", kill_worker(1), steps=12)
    assert (
        "holds this run already: it is continued."
        in (tmp_path / "two" / "agent0.txt").read_text() + (tmp_path / "two" / "agent1.txt").read_text()
    )

    def alone(_: int) -> None:
        recipe = two_rank_recipe(
            length="12 steps", checkpoint_every="2 steps", observers=[f"{disturbing.__file__}:Slow"]
        )
        start(recipe, tmp_path / "alone", kills.ZOO, kills.CPU, note=lambda text: None)

    assert together(alone, 1) == [0]
    ends = {path.stem for path in (out / "generators").iterdir()} - {
        path.stem for path in (tmp_path / "alone" / "generators").iterdir()
    }
    assert_alike(tmp_path / "alone", out, sorted(ends))


@pytest.mark.slow
def test_workers_and_an_agent_are_killed_and_the_run_is_the_undisturbed_one(tmp_path: Path) -> None:
    reference = run_on_two_agents(tmp_path / "undisturbed", undisturbed, steps=24)
    for name, disturb in {"first": kill_worker(0), "second": kill_worker(1), "agent": kill_agent}.items():
        out = run_on_two_agents(tmp_path / name, disturb, steps=24)
        assert_same_as_undisturbed(out, reference)
