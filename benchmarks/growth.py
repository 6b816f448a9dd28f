"""Measures how a training step scales with the batch size, the image size, the channels, the ranks and the data source.

    python benchmarks/growth.py [--quick] [--only batch]       make bench-growth

Every row is a training in a process of its own (two processes for two ranks, over gloo or NCCL). The rows of a table
are interleaved: each round runs some steps of every row. Memory is the peak of a process minus its peak before the
training was built; on CUDA, the peak allocated on the device. Prints tables and writes
benchmarks/results/growth-DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import RESULTS, interleaved, machine, ratio, show, spread, timed, write
from steps import Steps, setup_of

from ganzoo import Choice
from ganzoo.engine import memory
from ganzoo.engine.device import find_device

#: warm-up steps of a process before it is timed
_WARM = 2
#: seconds of one row in one round, about
_ROUND_SECONDS = 0.3


@dataclass(frozen=True)
class Setting:
    """One row of a table: the batch size, the images and the number of processes of a training."""

    name: str
    batch_size: int = 64
    size: int = 32
    channels: int = 1
    #: processes that share a batch and the CPU cores
    ranks: int = 1
    #: whether images are read batch by batch, as for a dataset larger than memory
    streamed: bool = False
    #: number of images in the dataset
    count: int = 1024


#: the tables; in each, one property of the rows varies
GROUPS: dict[str, list[Setting]] = {
    "batch": [Setting(f"{batch} images of 1x28x28", batch, 28) for batch in (32, 64, 128, 256, 512)],
    "size": [Setting(f"32 images of 1x{size}x{size}", 32, size) for size in (28, 32, 64, 128)],
    "channels": [Setting(f"64 images of {channels}x32x32", 64, 32, channels) for channels in (1, 3)],
    "ranks": [
        Setting(f"{ranks} rank{'s' * (ranks > 1)}, 128 images of 1x32x32", 128, 32, 1, ranks) for ranks in (1, 2)
    ],
    "data": [
        Setting("64 images of 3x64x64, resident", 64, 64, 3, count=20_000),
        Setting("64 images of 3x64x64, streamed", 64, 64, 3, streamed=True, count=20_000),
    ],
}
QUICK: dict[str, list[Setting]] = {
    "batch": [Setting(f"{batch} images of 1x28x28", batch, 28, count=64) for batch in (4, 8)],
    "ranks": [Setting(f"{ranks} ranks, 8 images of 1x8x8", 8, 8, 1, ranks, count=64) for ranks in (1, 2)],
    "data": [
        Setting("8 images of 3x16x16, resident", 8, 16, 3, count=64),
        Setting("8 images of 3x16x16, streamed", 8, 16, 3, streamed=True, count=64),
    ],
}


# --- one training in a process of its own ---


def serve(setting: Setting, architecture: str, device_name: str, images: str) -> None:
    """Be the process of one training: run as many steps as each line of stdin says, then print the peak memory."""
    device, before = find_device(device_name), _peak()
    if setting.streamed:
        memory.MEMORY_SHARE = 0.0
    setup = setup_of(architecture, Choice("npy", {"path": images, "test_every": 0}), setting.batch_size, "fp32", device)
    steps = Steps(setup, capture=setting.ranks == 1)
    steps.run(_WARM)
    print("ready", flush=True)
    for line in sys.stdin:
        steps.run(int(line))
        allocated = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak() - before
        print(allocated, flush=True)


def _peak() -> int:
    """Peak resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage starts with the peak of the parent process
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Training:
    """The processes of one setting."""

    def __init__(self, setting: Setting, processes: Sequence[subprocess.Popen[str]]) -> None:
        self.setting, self.processes = setting, processes
        #: peak memory of one process, in bytes
        self.bytes = 0
        #: steps of one `run`
        self.steps = 1

    def answers(self) -> list[str]:
        """One line of output from each process."""
        found = [process.stdout.readline().strip() for process in self.processes if process.stdout]
        if not all(found):
            raise SystemExit(f"A process of {self.setting.name} has ended; see its output above.")
        return found

    def run(self) -> None:
        """Run `steps` steps in all processes and wait for them."""
        for process in self.processes:
            assert process.stdin
            process.stdin.write(f"{self.steps}\n")
            process.stdin.flush()
        self.bytes = max(map(int, self.answers()))


@contextmanager
def started(setting: Setting, architecture: str, device: torch.device, folder: Path) -> Iterator[Training]:
    """Start the processes of a training; they end with the context."""
    path = folder / f"{setting.count}-{setting.size}-{setting.channels}.npy"
    if not path.exists():
        shape = (setting.count, setting.size, setting.size, setting.channels)
        np.save(path, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), allow_pickle=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, "--serve", json.dumps(asdict(setting)), "--architecture", architecture]
    command += ["--device", str(device), "--images", str(path)]
    threads = max(1, len(os.sched_getaffinity(0)) // setting.ranks)
    common = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    processes = []
    for rank in range(setting.ranks):
        environment = dict(common)
        if setting.ranks > 1:
            ranks = {"WORLD_SIZE": setting.ranks, "RANK": rank, "LOCAL_RANK": rank}
            ranks |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment |= {name: str(value) for name, value in ranks.items()}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    try:
        yield Training(setting, processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


# --- the tables ---


def group_of(
    settings: Sequence[Setting], architecture: str, device: torch.device, folder: Path, rounds: int
) -> dict[str, Any]:
    """Time and memory of all settings of one table, by their names, measured interleaved."""
    with ExitStack() as stack:
        trainings = [stack.enter_context(started(setting, architecture, device, folder)) for setting in settings]
        for training in trainings:
            training.answers()
        for training in trainings:
            training.steps = max(1, round(_ROUND_SECONDS / timed(training.run, device)))
        seconds = interleaved({training.setting.name: training.run for training in trainings}, rounds, device)
        each = {t.setting.name: [value / t.steps for value in seconds[t.setting.name]] for t in trainings}
        first = each[trainings[0].setting.name]
        return {
            training.setting.name: {
                **asdict(training.setting),
                "seconds_per_step": spread(each[training.setting.name]),
                "times_the_first": ratio(each[training.setting.name], first),
                "images_per_second": training.setting.batch_size / spread(each[training.setting.name])["median"],
                "bytes_at_most": training.bytes,
            }
            for training in trainings
        }


def show_group(name: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one table."""
    columns = [name, "ms per step", "min", "max", "relative to the first", "images/s", "MiB per process"]
    lines = []
    for setting, facts in rows.items():
        step = facts["seconds_per_step"]
        milliseconds = [f"{1e3 * step[one]:.1f}" for one in ("median", "low", "high")]
        times = f"{facts['times_the_first']['median']:.2f}"
        rest = [times, f"{facts['images_per_second']:.0f}", f"{facts['bytes_at_most'] / 2**20:.0f}"]
        lines.append([setting, *milliseconds, *rest])
    show(f"Growth: {name}", columns, lines)


def main(arguments: Sequence[str] | None = None) -> Path | None:
    """Measure, print the tables and write the results; with --serve, be one of the measured processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="dcgan:width=32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=list(GROUPS), help="measure only this table")
    parser.add_argument("--quick", action="store_true", help="a tiny version, for tests")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--images", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        serve(Setting(**json.loads(given.serve)), given.architecture, given.device, given.images)
        return None
    device, architecture = find_device(given.device), "dcgan:width=4" if given.quick else given.architecture
    groups = QUICK if given.quick else GROUPS
    facts: dict[str, Any] = {"machine": machine(device), "architecture": architecture, "tables": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in [given.only] if given.only else groups:
            rows = group_of(groups[name], architecture, device, Path(folder), 2 if given.quick else given.rounds)
            facts["tables"][name] = rows
            show_group(name, rows)
    return write(f"growth-{device.type}", facts, given.results)


if __name__ == "__main__":
    main()
