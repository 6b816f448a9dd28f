"""The process of one trial: `python -m ganzoo.experiments.worker DIRECTORY PARENT`.

It reads the request DIRECTORY/cell.json, starts or resumes the run, and writes DIRECTORY/done.json at the end. When the
process with the id PARENT has ended, it saves everything and ends too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.recipe import Recipe
from ganzoo.engine.device import find_device
from ganzoo.engine.progress import Progress
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo, zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.files import write_atomically
from ganzoo.storage.lock import exclusive, writer
from ganzoo.storage.run import Run
from ganzoo.training.build import build_setup
from ganzoo.training.history import restore_history
from ganzoo.training.train import resume, start


def run_trial(directory: Path, zoo: Zoo) -> None:
    """Run the trial that `directory` requests to its end. Raises GanzooError if it fails."""
    request = json.loads((directory / "cell.json").read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    # wait for an earlier process of this trial, which may still be saving after its benchmark was killed
    with exclusive(directory / "lock"):
        if (directory / "done.json").exists():
            return
        path, recipe = (directory / request["run"]).resolve(), Recipe.from_dict(request["recipe"])
        if path.is_dir():
            release_stale_lock(path, _log)
        progress = run_to_end(path, recipe, request["device"], request["scores"], zoo, note=_log)
        done = {"step": progress.step, "images": progress.images}
        write_atomically(directory / "done.json", (json.dumps(done) + "\n").encode())


def release_stale_lock(run: Path, note: Callable[[str], None], unchanged: float = 60.0, poll: float = 2.0) -> None:
    """Remove the lock of a process on another machine that writes nothing for `unchanged` seconds: that node was lost.

    A lock of this machine is left alone: whether its process still exists is known.
    """
    owner = writer(run)
    if owner is None or owner.is_here:
        return
    note(f"{run} is locked by process {owner.pid} on {owner.host}: waiting for it to end.")
    newest, since = -1.0, time.monotonic()
    while (run / "lock").exists() and time.monotonic() - since < unchanged:
        time.sleep(poll)
        times = [path.stat().st_mtime for path in (run, *run.glob("*"), *run.glob("*/*")) if path.exists()]
        if (now := max(times, default=0.0)) > newest:
            newest, since = now, time.monotonic()
    if not (run / "lock").exists():
        return
    note(f"{owner.host} has written nothing for {unchanged:g} s: its run is continued here.")
    (run / "lock").unlink(missing_ok=True)


def run_to_end(
    path: Path, recipe: Recipe, device: str, scores: Sequence[str], zoo: Zoo, **more: Any
) -> TrainingProgress:
    """Start or resume the run in `path` and train it to its end; returns the progress at the end.

    A run that has all of `scores` at its end is not trained again. `more` are keyword arguments of `training.train`.
    """
    if not (path / "recipe.json").exists():
        shutil.rmtree(path, ignore_errors=True)  # left by a process that was killed while it created the run
        return start(recipe, path, zoo, find_device(device), **more)[1]
    # a run stays on its device unless another device is given
    return _finished(path, scores, zoo) or resume(path, zoo, None if device == "auto" else device, **more)[1]


def _finished(path: Path, scores: Sequence[str], zoo: Zoo) -> TrainingProgress | None:
    """The progress of a run that has been trained to its end and scored there; None for any other run."""
    run, saved = Run.open(path), checkpoints.load_latest(path / "checkpoints")
    if saved is None:
        return None
    setup = build_setup(run.recipe, recorded_zoo(run, zoo), torch.device("cpu"))
    restore_history(setup, run, saved)
    progress = Progress(run.recipe.length, setup.feed)
    progress.step = saved.meta["step"]
    lines = [line for line in run.lines("scores.jsonl") if line.get("training") and line["step"] == progress.step]
    return progress.snapshot if progress.done and {line["score"] for line in lines} >= set(scores) else None


def _log(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (into the log of the trial)


def _end_with(parent: int) -> None:
    """Send SIGTERM to this process when the process `parent` has ended for any reason."""

    def wait_for_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_parent, daemon=True, name="ganzoo-parent").start()


def main(directory: str, parent: str) -> int:
    """Run the trial of a directory; returns the exit code."""
    _end_with(int(parent))
    try:
        run_trial(Path(directory), zoo())
    except GanzooError as error:
        _log(f"Error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
