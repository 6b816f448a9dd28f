"""Launcher: runs the worker processes of a benchmark, on this machine or on others.

A launcher starts jobs, reports which have ended and why, and stops or kills them. It does not decide what runs, and
does not judge the outcome: `ganzoo benchmark` does both.
"""

from __future__ import annotations

import dataclasses
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Job:
    """One worker process for a launcher: its command, its own files, and the resources it asks for."""

    #: the name of the trial; no two running jobs have the same
    name: str
    #: arguments of the Python interpreter. The texts `{folder}` and `{parent}` in them are replaced by `command`
    arguments: tuple[str, ...]
    #: absolute path of the folder of the benchmark, on the machine that starts the launcher
    folder: Path
    #: directories below `folder`, relative to it, that the worker reads and writes; it writes nowhere else
    files: tuple[str, ...] = ()
    #: file below `folder`, relative to it, to which the output of the worker is appended
    log: str = "log"
    #: number of CPU threads
    threads: int = 1
    #: `auto`, `cpu`, `cuda` or `cuda:N`, as the user wrote it
    device: str = "cpu"
    #: a worker that writes nothing for so many seconds hangs: it is killed
    patience: float = math.inf
    #: environment variables that the worker needs in addition to those of the machine where it runs
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: absolute paths outside `folder` that the worker reads, such as the file of a part or a dataset; the value is the
    #: sha256 of a file with code, and empty for others
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def command(self, python: str, folder: Path | None = None) -> list[str]:
        """The command line of the worker, for the process that calls this: the worker ends when that process has ended.

        `python` is the interpreter. `folder` is where the job's folder lies on this machine, by default the same path.
        """
        place, parent = str(folder or self.folder), str(os.getpid())
        return [python, *(text.replace("{folder}", place).replace("{parent}", parent) for text in self.arguments)]


@dataclasses.dataclass(frozen=True)
class EndedJob:
    """A job whose worker has ended, or that could not be run."""

    name: str
    #: exit code of the worker, negative for the number of the signal that ended it; None where no worker ran or where
    #: it was lost: the trial is then resumed by the next call
    exit_code: int | None
    #: why it ended, where the launcher knows more than the exit code says: it hung, or its node was lost
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class LaunchRequest:
    """What a launcher is told before the first job."""

    #: jobs at a time that the user asked for; None: the launcher decides
    jobs: int | None = None
    #: `auto`, `cpu`, `cuda` or `cuda:N`, as the user wrote it
    device: str = "cpu"
    #: absolute path of the folder of the benchmark; a launcher may keep files of its own in its folder `launcher`
    folder: Path = Path()
    #: CPU threads of a job that the user asked for by OMP_NUM_THREADS; None: the launcher decides
    threads: int | None = None
    #: CPU cores that this machine has for the benchmark
    cores: int = 1
    #: receives a message for the user
    note: Callable[[str], None] = print


class Launcher(ABC):
    """Runs jobs: each is a worker process of its own, so that one that crashes costs no other.

    The order of calls is: `open`; then `start` whenever `ready`, `ended` and `stop` in any order; and `close`.
    """

    @abstractmethod
    def open(self, request: LaunchRequest) -> int:
        """Prepare for jobs. Returns the number of CPU threads of a new job.

        Raises GanzooError, in one sentence, where no job could run: a library is missing, nothing answers at an
        address, or a job asks for more than there is.
        """

    @abstractmethod
    def ready(self) -> bool:
        """Whether another job may be started now. Does not wait. Always True after a while if no job is running."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Start a job, or put it into the queue of a cluster; does not wait for it.

        Raises GanzooError where this job cannot run, such as one that needs a file that others do not see.
        """

    @abstractmethod
    def ended(self) -> Sequence[EndedJob]:
        """The jobs that have ended since the last call, each once; does not wait. Kills workers that hang."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """Ask the worker of a job to save and end (SIGTERM); does not wait. Then `ended` returns it."""

    @abstractmethod
    def close(self) -> None:
        """Kill all workers that are still running, and release what `open` took. May be called more than once."""


def available_cores() -> int:
    """The number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of_user() -> int | None:
    """The number of CPU threads that the user asks for by OMP_NUM_THREADS; None where it is not set."""
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) else None
