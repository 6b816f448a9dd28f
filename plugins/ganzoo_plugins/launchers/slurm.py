"""Trials as jobs of Slurm, submitted by submitit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import click

import ganzoo
from ganzoo_plugins.launchers._slurm_job import SlurmJob

#: trials in the queue of Slurm at a time, where --jobs says nothing: most clusters allow arrays of 1,000 jobs
_MOST_QUEUED = 1000


class Slurm(ganzoo.Launcher):
    """Jobs of Slurm, one a trial, in arrays. A job that is preempted, or whose time is up, goes to the queue again.

    The output folder must be one that all nodes see. Jobs go on where this command is killed; the same command again
    finds them.
    """

    def __init__(
        self,
        *,
        partition: Annotated[str | None, "the partition; none: the default of the cluster"] = None,
        account: Annotated[str | None, "the account that is charged"] = None,
        qos: Annotated[str | None, "the quality of service"] = None,
        minutes: Annotated[int, click.IntRange(min=1), "time limit of a job; a trial may need several jobs"] = 240,
        threads: Annotated[
            int | None, click.IntRange(min=1), "CPU threads of a trial; none: OMP_NUM_THREADS, or 1"
        ] = None,
        gpus: Annotated[int | None, click.IntRange(min=0), "GPUs of a trial; none: 1 with --device cuda"] = None,
        memory: Annotated[float, click.FloatRange(min=0, min_open=True), "GiB of memory of a trial"] = 4.0,
        cluster: Annotated[
            Literal["slurm", "local"], "local: processes of this machine in place of Slurm, to try it out"
        ] = "slurm",
    ) -> None:
        self.partition, self.account, self.qos, self.minutes = partition, account, qos, minutes
        self.threads, self.gpus, self.memory, self.cluster = threads, gpus, memory, cluster
        self.running: dict[str, Any] = {}
        self._waiting: list[SlurmJob] = []
        self._limit = 1

    def open(self, request: ganzoo.LaunchRequest) -> int:
        """Prepare submitit. Raises GanzooError where it is not installed, or where there is no Slurm."""
        try:
            import submitit
        except ImportError as error:
            raise ganzoo.GanzooError(
                "The launcher slurm needs submitit, which is not installed: pip install 'torch-ganzoo[slurm]'."
            ) from error
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise ganzoo.GanzooError(
                "There is no Slurm here (no command sbatch): run this on a login node of the cluster, or try it out "
                "with --launcher slurm:cluster=local."
            )
        self._submitit = submitit
        self._folder = request.folder / "launcher" / "slurm"
        self._folder.mkdir(parents=True, exist_ok=True)
        threads = self.threads or request.threads or 1
        gpus = (1 if request.device.startswith("cuda") else 0) if self.gpus is None else self.gpus
        self._limit = request.jobs or (_MOST_QUEUED if self.cluster == "slurm" else max(1, request.cores // threads))
        self._executor = submitit.AutoExecutor(folder=self._folder / "%j", cluster=self.cluster)
        options: dict[str, Any] = {
            "name": "ganzoo",
            "timeout_min": self.minutes,
            "cpus_per_task": threads,
            "mem_gb": self.memory,
            "slurm_array_parallelism": self._limit,
        }
        if gpus or self.cluster == "slurm":
            options["gpus_per_node"] = gpus
        more = {"slurm_partition": self.partition, "slurm_account": self.account, "slurm_qos": self.qos}
        self._executor.update_parameters(**options, **{name: value for name, value in more.items() if value})
        return threads

    def ready(self) -> bool:
        """Whether fewer trials than allowed are running or in the queue."""
        return len(self.running) + len(self._waiting) < self._limit

    def start(self, job: ganzoo.Job) -> None:
        """Remember the job: `ended` submits all new ones as one array. One that is in Slurm already is taken over."""
        self._stop_file(job.name).unlink(missing_ok=True)
        if (submitted := self._submitted(job.name)) is not None:
            self.running[job.name] = submitted
        else:
            self._waiting.append(SlurmJob(job, self._stop_file(job.name)))

    def ended(self) -> Sequence[ganzoo.EndedJob]:
        """Submit the new jobs; return those that have ended."""
        self._submit()
        found = []
        for name, submitted in list(self.running.items()):
            if not self._is_done(submitted):
                continue
            del self.running[name]
            self._id_file(name).unlink(missing_ok=True)
            try:
                code, reason = submitted.result()
                found.append(ganzoo.EndedJob(name, code, reason))
            except Exception as error:  # of submitit: the job has left no result, or the function has failed
                lines = str(error).strip().splitlines() or [type(error).__name__]
                found.append(ganzoo.EndedJob(name, None, f"Job {submitted.job_id} was lost: {lines[0][:300]}"))
        return found

    def stop(self, name: str) -> None:
        """Let the job end its worker."""
        if name in self.running or any(work.job.name == name for work in self._waiting):
            self._stop_file(name).touch()

    def close(self) -> None:
        """Cancel all jobs."""
        for name, submitted in self.running.items():
            with suppress(Exception):  # scancel may fail for a job that has just ended
                submitted.cancel()
                if self.cluster == "local" and submitted._process is not None:
                    submitted._process.wait(timeout=10)
            self._id_file(name).unlink(missing_ok=True)
        self.running.clear()
        self._waiting.clear()

    def _submit(self) -> None:
        works, self._waiting = self._waiting, []
        if not works:
            return
        try:
            with self._executor.batch():
                submitted = [self._executor.submit(work) for work in works]
        except Exception as error:  # of submitit, with the output of sbatch
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ganzoo.GanzooError(f"Slurm refuses the jobs: {lines[-1][:300]}") from error
        for work, job in zip(works, submitted, strict=True):
            self.running[work.job.name] = job
            self._id_file(work.job.name).write_text(json.dumps({"id": job.job_id, "cluster": self.cluster}))

    def _stop_file(self, name: str) -> Path:
        return self._folder / f"{name}.stop"

    def _id_file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _submitted(self, name: str) -> Any:
        """The job of a trial that an earlier command has submitted, if it has not ended; else None."""
        try:
            known = json.loads(self._id_file(name).read_text())
            if known["cluster"] != self.cluster:
                return None
            job_class = self._submitit.SlurmJob if self.cluster == "slurm" else self._submitit.LocalJob
            job: Any = job_class(folder=self._folder / "%j", job_id=str(known["id"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return None if self._is_done(job) else job

    def _is_done(self, job: Any) -> bool:
        if self.cluster == "local" and job._process is None:  # taken over: it is no child of this process
            return job.paths.result_pickle.exists() or not _is_controller(job.job_id)
        return bool(job.done())


def _is_controller(number: str) -> bool:
    """Whether the process of this number is one that submitit has started in place of a Slurm job."""
    try:
        return b"submitit.local._local" in Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        with suppress(OSError):
            os.kill(int(number), 0)
            return not Path("/proc").is_dir()
        return False
