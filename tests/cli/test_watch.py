"""ganzoo watch, beside a process that writes the run; and the live display at several widths."""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import ganzoo
from terminal import ganzoo_in_terminal

from ganzoo.api import displays
from ganzoo.api.displays import ConsoleProgress
from ganzoo.contract.choice import Amount
from ganzoo.contract.hooks import TrainingProgress

RUN: Any = SimpleNamespace(
    path=Path("runs/a"), recipe=SimpleNamespace(length=Amount(100, "steps"), best_by=None), lines=lambda name: []
)
PRETEND = Path(__file__).with_name("pretend_training.py")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("watch") / "run"
    length = ("--steps", 8, "--batch-size", 8, "--tick-every", 1, "--samples-every", 2)
    scored = ("-e", "sliced-wasserstein", "--samples", 16, "--score-every", 4)
    done = ganzoo("train", "mlp-vanilla", "digits:size=8", *length, *scored, "--out", out, "-q")
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@contextmanager
def training(run: Path, seconds: float, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A process that writes the run; it has begun."""
    command = [sys.executable, str(PRETEND), str(run), str(seconds), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
        if process.poll() is None:
            process.kill()


def watcher(run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ganzoo", "watch", str(run), "-v"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_log_of_a_training_to_its_end(run: Path) -> None:
    with training(run, 3) as process, watcher(run) as watching:
        _, text = watching.communicate(timeout=120)
        assert process.wait() == 0
    assert watching.returncode == 0, text
    assert "\x1b" not in text
    assert text.splitlines()[-1] == f"{run} is finished."
    assert re.search(rf"{re.escape(str(run))}: step \d+  .*images/s  D [\d.]+  G [\d.]+  ", text)
    assert "step 8 " in text
    assert "samples " + str(run / "samples") in text
    assert len(re.findall(rf"{re.escape(str(run))}: sliced-wasserstein [\d.]+\n", text)) <= 2


def test_a_training_that_dies(run: Path) -> None:
    with training(run, 2, "--die") as process, watcher(run) as watching:
        _, text = watching.communicate(timeout=120)
        assert process.wait() == 1
    assert watching.returncode == 1
    assert text.splitlines()[-1] == f"{run} is interrupted."


def test_ctrl_c_ends_only_the_watcher(run: Path) -> None:
    with training(run, 60) as process, watcher(run) as watching:
        assert watching.stderr is not None
        watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        _, text = watching.communicate(timeout=60)
        assert process.poll() is None
    assert watching.returncode == 130
    assert f"No longer watching {run}. The training goes on." in text


def test_a_run_that_no_process_writes(trained: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in trained.rglob("*") if file.is_file()}
    done = ganzoo("watch", trained)
    assert done.exit_code == 0
    assert f"{trained} is finished." in done.stderr
    assert {file: file.read_bytes() for file in trained.rglob("*") if file.is_file()} == before
    missing = ganzoo("watch", tmp_path / "none")
    assert missing.exit_code == 2
    assert "holds no run" in missing.output


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_live_display_fits_and_has_everything(run: Path, columns: int) -> None:
    with training(run, 3) as process:
        status, text = ganzoo_in_terminal("watch", run, columns=columns)
        assert process.wait() == 0
    assert status == 0, text
    live = [part for part in re.split(r"[\r\n]+", text) if part.startswith("step ") or part.startswith("  ")]
    assert all(len(line) <= columns for line in live), live
    one = " ".join(live)
    for words in (
        r"step 8  ━━━━━━━━ 100%",
        r"\d images/s",
        r"D \d\.\d{4}  G \d\.\d{4}",
        r"sliced-wasserstein \d",
        " left",
    ):
        assert re.search(words, one), words
    assert any("accuracy" in line and "left" in line for line in live) == (columns == 200)  # else on a second line


@pytest.mark.parametrize("no_color", ["", "1"])
def test_without_colour(no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", Screen())
    display = ConsoleProgress()
    display.on_run_start(RUN)
    display.on_heartbeat(TrainingProgress(50, 50, 0.0))
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    display.close()
    assert ("\x1b[36m" in shown) == (not no_color)
    assert "50%" in shown


def test_the_time_is_announced_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(displays, "_MEASURED", 0.0)
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr("ganzoo.api.progress.time.perf_counter", lambda: float(next(now)))
    display = ConsoleProgress()
    display.on_run_start(RUN)
    for step in range(5):
        display.on_heartbeat(TrainingProgress(step, step, 0.0))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("About ")]
    assert re.fullmatch(r"About \d+ min to go, at the speed of the steps up to step 1\.", line)
