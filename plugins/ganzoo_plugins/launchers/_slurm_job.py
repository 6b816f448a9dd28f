"""What a Slurm job does for one trial: start its worker, and let it save when Slurm needs the node."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ganzoo
from ganzoo_plugins.launchers._worker import Worker

_POLL_SECONDS = 0.1


class SlurmJob:
    """The function of a job of submitit. It ends its worker where the file `stop_file` exists."""

    def __init__(self, job: ganzoo.Job, stop_file: Path) -> None:
        self.job, self.stop_file = job, stop_file
        self._worker: Worker | None = None

    def __call__(self) -> tuple[int, str]:
        """Run the worker; returns its exit code, and why it was killed, if it was."""
        self._worker = worker = Worker(self.job)
        stopping = False
        try:
            while (code := worker.poll()) is None:
                if not stopping and self.stop_file.exists():
                    stopping = True
                    worker.stop()
                time.sleep(_POLL_SECONDS)
            return code, worker.reason
        finally:
            worker.kill()  # the job is cancelled: its worker must not outlive it

    def checkpoint(self) -> Any:
        """Called before the job is preempted or its time is up: the worker saves, and the job is queued again."""
        from submitit.helpers import DelayedSubmission

        if self._worker is not None:
            self._worker.stop()
            self._worker.process.wait()
        return DelayedSubmission(SlurmJob(self.job, self.stop_file))
