"""Trainings that torchrun restarts after a process was lost: whether a start continues the run in its directory.

torchrun starts all processes anew with the same command. Its restart count says nothing: it stays 0 where another node
has noticed the loss. So the directory decides: a run of the same recipe there is continued from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.paths import is_file
from ganzoo.contract.recipe import Recipe
from ganzoo.engine import distributed
from ganzoo.storage.lock import WrittenByOther
from ganzoo.storage.recipe_binding import differences_in_words
from ganzoo.storage.run import Run

#: seconds that a process waits for what another node has written, and for the end of an earlier process of its job
_PATIENCE = 60.0
#: the id that torchrun uses where --rdzv-id names none: other jobs have it too
_NO_ID = "none"


@dataclass(frozen=True)
class Job:
    """The torchrun job that started this process."""

    #: its --rdzv-id; empty where it has none of its own
    name: str
    max_restarts: int
    nodes: int
    #: whether the processes use the store of torchrun's agents, which a restart over several nodes can lose
    shared_store: bool

    @staticmethod
    def current() -> Job | None:
        """The job of this process; None where torchrun did not start it."""
        name = os.environ.get("TORCHELASTIC_RUN_ID")
        if name is None:
            return None
        return Job(
            name="" if name == _NO_ID else name,
            max_restarts=int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")),
            nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
            shared_store=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )

    @property
    def advice(self) -> str:
        """A sentence about what would make restarts fail; empty where nothing does."""
        if not (self.max_restarts and self.nodes > 1 and self.shared_store):
            return ""
        return (
            "Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where you start each torchrun of several nodes: without it most "
            "restarts cannot connect."
        )


def job_name() -> str:
    """The name of the torchrun job of this process; empty without one."""
    job = Job.current()
    return job.name if job else ""


def require_out() -> None:
    """Raise UsageError where torchrun may restart this process, which then has no directory to continue in."""
    job = Job.current()
    if job is not None and job.max_restarts:
        raise UsageError(
            f"torchrun may restart this training {job.max_restarts} times, and a restart continues the run that lies "
            "in --out: name its directory with --out DIR."
        )


def continues_run(out: Path, recipe: Recipe) -> bool:
    """Whether this start continues the run in `out`. The first process decides, and each process must call this.

    Raises UsageError where a new run cannot be made there and it holds no run of this recipe, and GanzooError where
    another node has other files in `out`.
    """
    continued = False
    with distributed.all_or_none():
        if distributed.rank() == 0:
            continued = _holds_run(out, recipe)
    continued = bool(distributed.from_first_rank(continued))
    job = Job.current()
    if job is not None and job.nodes > 1:
        if continued:
            require_shared(out)
        else:
            with distributed.all_or_none():
                if is_file(out / "recipe.json"):
                    raise _not_shared(out)
    return continued


def require_shared(out: Path) -> None:
    """Raise GanzooError on all processes where one of them does not see the run that the first process sees in `out`.

    A file of another node may appear late, so that each process waits for it. Each process must call this.
    """
    expected = distributed.from_first_rank(_identity(out))
    with distributed.all_or_none():
        deadline = time.monotonic() + _PATIENCE
        while _identity(out) != expected:
            if time.monotonic() > deadline:
                raise _not_shared(out)
            time.sleep(0.5)


def require_shared_for_restarts(out: Path) -> None:
    """Raise GanzooError before the first step where a restart on several nodes could not find the run in `out`."""
    job = Job.current()
    if job is not None and job.nodes > 1 and job.max_restarts:
        require_shared(out)


def open_to_write(path: Path) -> Run:
    """The run in `path`, to be written by this process. Waits for an earlier process of the same job to end."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return Run.open(path, writes=True, job=job_name())
        except WrittenByOther as error:
            if not error.same_job or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def is_of_this_job(run: Run) -> bool:
    """Whether this job has started the run, so that it is no mistake to start it once more when it is finished."""
    return bool(job_name()) and run.environment.get("torchrun_job") == job_name()


def _holds_run(out: Path, recipe: Recipe) -> bool:
    """Whether `out` holds a run of this recipe and torchrun started this process."""
    if Job.current() is None or not is_file(out / "recipe.json"):
        Run.refuse_taken(out)
        return False
    if words := differences_in_words(recipe, Run.open(out).recipe):
        raise UsageError(
            f"{out} holds a run of another recipe already ({words}): a restart by torchrun continues a run of the same "
            "recipe only; choose another --out."
        )
    return True


def _identity(out: Path) -> str:
    """sha256 of the run's environment.json, which is never written again; empty without it."""
    try:
        return hashlib.sha256((out / "environment.json").read_bytes()).hexdigest()
    except OSError:
        return ""


def _not_shared(out: Path) -> GanzooError:
    return GanzooError(
        f"Rank {distributed.rank()} on {socket.gethostname()} does not see the same run in {out} as rank 0: name an "
        "--out on a file system that all nodes share, so that a restart finds its checkpoint on each of them."
    )
