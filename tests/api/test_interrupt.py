"""A call that is stopped by a signal saves, and raises what also stops the caller's loop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ganzoo

SMALL = {"batch_size": 8, "tick_every": 5, "quiet": True}


@contextmanager
def _signal_when(path: Path, number: int) -> Iterator[None]:
    """Send a signal to this process as soon as `path` exists."""
    over = threading.Event()

    def send() -> None:
        while not path.exists() and not over.is_set():
            time.sleep(0.02)
        if not over.is_set():
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_is_resumed(number: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with _signal_when(out / "stats.jsonl", number), pytest.raises(ganzoo.TrainingInterrupted) as stopped:
        ganzoo.train("mlp-vanilla", "digits:size=8", steps=1_000_000, out=out, **SMALL)
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert not isinstance(stopped.value, Exception)
    words = f"{'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'} after step"
    assert words in str(stopped.value)
    assert f"Continue with: ganzoo.resume({str(out)!r})" in str(stopped.value)
    run = stopped.value.run
    assert run.path == out
    step = int(run.checkpoints[-1].name) // 8
    assert step > 0
    assert run.resume(steps=step + 5, quiet=True).progress.step == step + 5
    # a run that was stopped and resumed is that of one training
    whole = ganzoo.train("mlp-vanilla", "digits:size=8", steps=step + 5, out=tmp_path / "whole", **SMALL)
    assert run.generators[-1].read_bytes() == whole.generators[-1].read_bytes()


def test_a_stopped_benchmark_names_the_call_that_goes_on(tmp_path: Path) -> None:
    small = {"seeds": 0, "steps": 1_000_000, "samples": 16, "out": tmp_path}
    running = tmp_path / "table.json"  # written before the first trial starts
    with _signal_when(running, signal.SIGINT), pytest.raises(KeyboardInterrupt) as stopped:
        ganzoo.benchmark("mlp-vanilla", "digits:size=8", **small)
    if isinstance(stopped.value, ganzoo.TrainingInterrupted):  # else the signal came before the first trial
        assert "Go on" in str(stopped.value)
        with pytest.raises(ganzoo.UsageError, match="same function again"):
            stopped.value.run  # noqa: B018
