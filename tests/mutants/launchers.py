"""Faulty launchers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import ganzoo


class Good(ganzoo.Launcher):
    """Runs jobs as processes of this machine."""

    def open(self, request: ganzoo.LaunchRequest) -> int:
        self.jobs = request.jobs or 1
        self.running: dict[str, Any] = {}
        self.written: dict[str, float] = {}
        return 1

    def ready(self) -> bool:
        return len(self.running) < self.jobs

    def environment(self, job: ganzoo.Job) -> dict[str, str]:
        return {**os.environ, **job.environment}

    def start(self, job: ganzoo.Job) -> None:
        with open(job.folder / job.log, "ab") as log:
            process = subprocess.Popen(job.command(sys.executable), stdout=log, stderr=log, env=self.environment(job))
        self.running[job.name] = job, process, time.monotonic()

    def ended(self) -> Sequence[ganzoo.EndedJob]:
        found = []
        for name, (job, process, started) in list(self.running.items()):
            hung = time.monotonic() - started > job.patience
            if hung:
                process.kill()
                process.wait()
            if process.poll() is not None:
                del self.running[name]
                found.append(ganzoo.EndedJob(name, process.returncode, "It wrote nothing for long." if hung else ""))
        return found

    def stop(self, name: str) -> None:
        if name in self.running:
            self.running[name][1].terminate()

    def close(self) -> None:
        for _, process, _ in getattr(self, "running", {}).values():
            process.kill()
            process.wait()
        self.running = {}


class Forgetting(Good):
    """Does not pass the environment of a job on."""

    def environment(self, job: ganzoo.Job) -> dict[str, str]:
        return {**os.environ, "GANZOO_KIT": "lost"}


class Optimistic(Good):
    """Reports every job as successful."""

    def ended(self) -> Sequence[ganzoo.EndedJob]:
        found = super().ended()
        return [e if e.exit_code in (143, -15) or e.reason else ganzoo.EndedJob(e.name, 0) for e in found]


class Greedy(Good):
    """Takes more jobs than the user wants."""

    def ready(self) -> bool:
        return True


class Rude(Good):
    """Kills a job that it is to stop."""

    def stop(self, name: str) -> None:
        if name in self.running:
            job, process, _ = self.running[name]
            process.kill()
            (job.folder / "own" / "saved").touch()


class Patient(Good):
    """Kills a job that hangs, and does not say why."""

    def ended(self) -> Sequence[ganzoo.EndedJob]:
        return [ganzoo.EndedJob(ended.name, ended.exit_code) for ended in super().ended()]


class Leaving(Good):
    """Forgets its workers when it is closed."""

    left: list[Any] = []

    def close(self) -> None:
        self.left += [process for _, process, _ in getattr(self, "running", {}).values()]
        self.running = {}


MUTANTS = {
    "runs_a_job": Forgetting,
    "a_crash_costs_no_other": Optimistic,
    "keeps_to_the_number_of_jobs": Greedy,
    "stops_one_job": Rude,
    "a_hanging_job_is_killed": Patient,
    "close_leaves_no_worker": Leaving,
}
