"""The kit's two processes: standard output carries no answers, and a failure in one of them is reported."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from ganzoo.testing import two_processes
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped
from ganzoo.testing.training_checks import two_processes_are_one
from ganzoo.testing.two_processes import run_two_steps

GOOD = Path(__file__).parents[1] / "mutants" / "architectures.py"
NOISY = """
import os, sys

class Noisy(Good):
    '''Prints to standard output, through Python and directly to the descriptor, as gloo does.'''

    def networks(self, images):
        print("hello")
        sys.stdout.flush()
        os.write(1, b"[Gloo] Rank 0 is connected to 1 peer ranks. Expected number of connected peer ranks is : 1")
        return super().networks(images)

class Failing(Good):
    '''Fails in the other process only.'''

    def networks(self, images):
        if "import serve" in " ".join(sys.orig_argv):
            raise RuntimeError("no networks here")
        return super().networks(images)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.py"
    path.write_text(GOOD.read_text() + NOISY)
    return path


def test_what_a_part_prints_does_not_disturb_the_answers(file: Path) -> None:
    part = ExaminedPart.of(f"{file}:Noisy")
    for _ in range(2):  # the processes are kept: nothing of the first answer is left in the pipes
        first, second = run_two_steps(part)
        assert first
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert two_processes_are_one(part) == ""


def test_a_failure_in_one_process_is_reported_and_the_next_part_gets_new_processes(file: Path) -> None:
    with pytest.raises(Failed, match="In one of two processes: RuntimeError: no networks here"):
        run_two_steps(ExaminedPart.of(f"{file}:Failing"))
    first, _ = run_two_steps(ExaminedPart.of(f"{file}:Good"))
    assert first


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts the open descriptors in /proc")
def test_a_second_process_that_cannot_start_leaves_nothing_of_the_first(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_processes._stop()
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def one_only(*args: Any, **keywords: Any) -> subprocess.Popen[bytes]:
        if started:
            raise OSError("too many processes")
        started.append(popen(*args, **keywords))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", one_only)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Skipped, match="too many processes"):
        run_two_steps(ExaminedPart.of(f"{file}:Good"))
    assert started[0].poll() is not None
    assert len(os.listdir("/proc/self/fd")) == before
