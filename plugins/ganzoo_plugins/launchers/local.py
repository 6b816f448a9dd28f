"""Trials as processes of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import click

import ganzoo
from ganzoo_plugins.launchers._worker import Worker, free_memory

_GIB = 2**30
#: bytes that a trial is expected to use before one of them has been measured: Python with torch
_USUAL_MEMORY = _GIB // 2


class Local(ganzoo.Launcher):
    """A pool of processes on this machine, which share its CPU cores, its memory and its GPUs.

    A trial starts when it fits: fewer than `--jobs` are running, and there is free memory for the largest one so far.
    Without OMP_NUM_THREADS each gets an equal share of the cores. With several GPUs each gets the one with the fewest
    trials; with more jobs than GPUs several trials share a GPU.
    """

    def __init__(
        self,
        *,
        threads: Annotated[
            int | None, click.IntRange(min=1), "CPU threads of a trial; none: OMP_NUM_THREADS, or a share of the cores"
        ] = None,
        memory: Annotated[
            float | None, click.FloatRange(min=0), "GiB of memory of a trial; none: the most that one has used so far"
        ] = None,
        per_gpu: Annotated[
            int | None, click.IntRange(min=1), "trials at a time on one GPU; none: as many as --jobs allows"
        ] = None,
    ) -> None:
        self.threads, self.memory, self.per_gpu = threads, memory, per_gpu
        self.jobs = 1
        self.gpus: list[str] = []
        self.running: dict[str, tuple[Worker, str]] = {}
        self._peak = 0
        self._noted = False

    def open(self, request: ganzoo.LaunchRequest) -> int:
        """Find the GPUs. Raises GanzooError where a trial asks for more memory than there is."""
        self.note = request.note
        self.gpus = _gpus() if request.device in ("auto", "cuda") else []
        self.jobs = request.jobs or 1
        if self.gpus and self.per_gpu:
            self.jobs = min(self.jobs, self.per_gpu * len(self.gpus))
        free = free_memory()
        if self.memory and free is not None and self.memory * _GIB > free:
            raise ganzoo.GanzooError(
                f"A trial asks for {self.memory:g} GiB of memory (memory={self.memory:g}), and {free / _GIB:.1f} GiB "
                "are free here: ask for less, or end other programs."
            )
        return self.threads or request.threads or max(1, request.cores // self.jobs)

    def ready(self) -> bool:
        """Whether fewer trials than allowed are running, and another one fits into the free memory."""
        if not self.running:
            return True
        if len(self.running) >= self.jobs:
            return False
        free = free_memory()
        if free is None:
            return True
        need = round(self.memory * _GIB) if self.memory else max(self._peak, _USUAL_MEMORY)
        # what the running ones will still take
        reserved = sum(max(0, need - worker.memory) for worker, _ in self.running.values())
        if free - reserved >= need:
            return True
        if not self._noted:
            self._noted = True
            self.note(
                f"{free / _GIB:.1f} GiB of memory are free and a trial needs about {need / _GIB:.1f} GiB: fewer than "
                f"{self.jobs} trials run at a time."
            )
        return False

    def start(self, job: ganzoo.Job) -> None:
        """Start the worker process, on the GPU with the fewest trials."""
        variables, gpu = {}, ""
        if self.gpus:
            used = [taken for _, taken in self.running.values()]
            gpu = min(self.gpus, key=used.count)
            variables["CUDA_VISIBLE_DEVICES"] = gpu
        self.running[job.name] = Worker(job, variables=variables), gpu

    def ended(self) -> Sequence[ganzoo.EndedJob]:
        """The workers that have ended."""
        found = []
        for name, (worker, _) in list(self.running.items()):
            code = worker.poll()
            self._peak = max(self._peak, worker.peak)
            if code is not None:
                del self.running[name]
                found.append(ganzoo.EndedJob(name, code, worker.reason))
        return found

    def stop(self, name: str) -> None:
        """Send SIGTERM to the worker."""
        if name in self.running:
            self.running[name][0].stop()

    def close(self) -> None:
        """Kill all workers."""
        for worker, _ in self.running.values():
            worker.kill()
        self.running.clear()


def _gpus() -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES writes them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible else []
    count = torch.cuda.device_count()
    return names if len(names) == count else [str(index) for index in range(count)]
