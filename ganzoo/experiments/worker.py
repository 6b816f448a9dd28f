"""One cell in a process of its own: `python -m ganzoo.experiments.worker DIRECTORY PARENT`.

It plays what DIRECTORY/cell.json asks for, from where it was left, and writes DIRECTORY/done.json at the end. When the
process PARENT is gone, it ends by itself, with everything saved.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.recipe import Recipe
from ganzoo.engine.device import find_device
from ganzoo.engine.progress import Progress
from ganzoo.registry.zoo import Zoo, zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.files import write_atomically
from ganzoo.storage.lock import exclusive
from ganzoo.storage.run import Run
from ganzoo.training.build import build_setup
from ganzoo.training.train import resume, start


def run_trial(directory: Path, zoo: Zoo) -> None:
    """Play the cell in `directory` to its end. Raises GanzooError where it fails."""
    asked = json.loads((directory / "cell.json").read_text(encoding="utf-8"))
    torch.set_num_threads(asked["threads"])
    # wait for an earlier process of this cell: one whose benchmark was killed may still be saving
    with exclusive(directory / "lock"):
        if (directory / "done.json").exists():
            return
        path, recipe = (directory / asked["run"]).resolve(), Recipe.from_dict(asked["recipe"])
        progress = run_to_end(path, recipe, asked["device"], asked["scores"], zoo, note=_say)
        done = {"step": progress.step, "images": progress.images}
        write_atomically(directory / "done.json", (json.dumps(done) + "\n").encode())


def run_to_end(
    path: Path, recipe: Recipe, device: str, scores: Sequence[str], zoo: Zoo, **more: Any
) -> TrainingProgress:
    """The end of the run in `path`: begun, gone on with, or found there. `more` goes to `train`."""
    if not (path / "recipe.json").exists():
        shutil.rmtree(path, ignore_errors=True)  # a run that was killed while it was made
        return start(recipe, path, zoo, find_device(device), **more)[1]
    # a run stays on its device unless another one is named
    return _end_of(path, scores, zoo) or resume(path, zoo, None if device == "auto" else device, **more)[1]


def _end_of(path: Path, scores: Sequence[str], zoo: Zoo) -> TrainingProgress | None:
    """The last step of a run that has been played and scored to its end; None for one that has not."""
    run, saved = Run.open(path), checkpoints.load_latest(path / "checkpoints")
    if saved is None:
        return None
    feed = build_setup(run.recipe, zoo, torch.device("cpu")).feed
    progress = Progress(run.recipe.length, feed.images_at, feed.epoch_images)
    progress.step = saved.meta["step"]
    lines = [line for line in run.lines("scores.jsonl") if line.get("training") and line["step"] == progress.step]
    return progress.snapshot if progress.done and {line["score"] for line in lines} >= set(scores) else None


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (into the log of the cell)


def _end_with(parent: int) -> None:
    """Stop this process like a signal from outside when `parent` is gone, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="ganzoo-parent").start()


def main(directory: str, parent: str) -> int:
    """The exit status."""
    _end_with(int(parent))
    try:
        run_trial(Path(directory), zoo())
    except GanzooError as error:
        _say(f"Error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
