"""How a step grows: with the batch, with the image, with its channels, with the processes, and with where images lie.

    python benchmarks/growth.py [--quick] [--only batch]       make bench-growth

Every row is a training in a process of its own (two for two ranks, over gloo or NCCL), and those of a table take turns:
some steps of each, then the next round. Memory is the most that a process took beyond what torch itself takes, at its
worst moment; on CUDA, what was allocated on the device. Prints tables and writes benchmarks/results/growth-DEVICE.json.
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
from steps import Steps, seat

from ganzoo import Choice
from ganzoo.engine import memory
from ganzoo.engine.device import find_device

#: steps of a process before it is timed
_WARM = 2
#: seconds that one turn of a process takes, about
_TURN = 0.3


@dataclass(frozen=True)
class Setting:
    """One row: what is trained on how many images of which shape at a time."""

    name: str
    batch_size: int = 64
    size: int = 32
    channels: int = 1
    #: processes that share a batch, and the processors
    ranks: int = 1
    #: whether images are read as they are needed, as those of a dataset larger than memory are
    streamed: bool = False
    #: images in the dataset
    count: int = 1024


#: the tables: in each, one thing grows
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


# --- one training, in a process of its own ---


def serve(setting: Setting, architecture: str, device_name: str, images: str) -> None:
    """Play as many steps as each line of stdin says, and answer when they are done, and with which memory."""
    device, before = find_device(device_name), _peak()
    if setting.streamed:
        memory.MEMORY_SHARE = 0.0
    table = seat(architecture, Choice("npy", {"path": images, "test_every": 0}), setting.batch_size, "fp32", device)
    steps = Steps(table, capture=setting.ranks == 1)
    steps.play(_WARM)
    print("ready", flush=True)
    for line in sys.stdin:
        steps.play(int(line))
        allocated = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak() - before
        print(allocated, flush=True)


def _peak() -> int:
    """Bytes that this process has taken at its worst moment."""
    status = Path("/proc/self/status")
    if status.exists():  # where getrusage begins with what the parent had taken
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Training:
    """The processes of a setting, and what they answer."""

    def __init__(self, setting: Setting, processes: Sequence[subprocess.Popen[str]]) -> None:
        self.setting, self.processes = setting, processes
        self.bytes = 0
        self.steps = 1

    def answers(self) -> list[str]:
        """A line of each process."""
        found = [process.stdout.readline().strip() for process in self.processes if process.stdout]
        if not all(found):
            raise SystemExit(f"A process of {self.setting.name} has ended; what it said stands above.")
        return found

    def play(self) -> None:
        """So many steps, on all processes."""
        for process in self.processes:
            assert process.stdin
            process.stdin.write(f"{self.steps}\n")
            process.stdin.flush()
        self.bytes = max(map(int, self.answers()))


@contextmanager
def started(setting: Setting, architecture: str, device: torch.device, folder: Path) -> Iterator[Training]:
    """A training that waits for its turns, and ends here."""
    path = folder / f"{setting.count}-{setting.size}-{setting.channels}.npy"
    if not path.exists():
        shape = (setting.count, setting.size, setting.size, setting.channels)
        np.save(path, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), allow_pickle=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, __file__, "--serve", json.dumps(asdict(setting)), "--architecture", architecture]
    words += ["--device", str(device), "--images", str(path)]
    threads = max(1, len(os.sched_getaffinity(0)) // setting.ranks)
    common = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    processes = []
    for rank in range(setting.ranks):
        place = {"WORLD_SIZE": setting.ranks, "RANK": rank, "LOCAL_RANK": rank}
        together = {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if setting.ranks > 1 else {}
        environment = {**common, **{name: str(value) for name, value in together.items()}}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes.append(subprocess.Popen(words, env=environment, text=True, **pipes))
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
    """What every setting of one table takes, by its name, all of them in turn."""
    with ExitStack() as stack:
        trainings = [stack.enter_context(started(setting, architecture, device, folder)) for setting in settings]
        for training in trainings:
            training.answers()
        for training in trainings:
            training.steps = max(1, round(_TURN / timed(training.play, device)))
        seconds = interleaved({training.setting.name: training.play for training in trainings}, rounds, device)
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
    """Print a table."""
    columns = [name, "ms a step", "from", "to", "times the first", "images/s", "MiB a process"]
    lines = []
    for setting, facts in rows.items():
        step = facts["seconds_per_step"]
        milliseconds = [f"{1e3 * step[one]:.1f}" for one in ("median", "low", "high")]
        times = f"{facts['times_the_first']['median']:.2f}"
        rest = [times, f"{facts['images_per_second']:.0f}", f"{facts['bytes_at_most'] / 2**20:.0f}"]
        lines.append([setting, *milliseconds, *rest])
    show(f"Growth: {name}", columns, lines)


def main(words: Sequence[str] | None = None) -> Path | None:
    """Measure, print, and write down; or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="dcgan:width=32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=list(GROUPS), help="one of the tables")
    parser.add_argument("--quick", action="store_true", help="a tiny version of it, for tests")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--images", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
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
