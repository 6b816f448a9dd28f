"""Replay: play one step of a run again, exactly as it was, and look at it closely. Nothing is written to the run."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.engine.compile import compile_networks
from ganzoo.engine.device import find_device
from ganzoo.engine.progress import Progress
from ganzoo.engine.step import run_step, train_step
from ganzoo.registry.provenance import refuse_changed_code
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import tensors_to_bytes
from ganzoo.training.build import build_setup
from ganzoo.training.diagnosis import examine
from ganzoo.training.environment import changed_environment, refuse_other_images


def replay(
    path: Path,
    zoo: Zoo,
    step: int,
    device_name: str | None = None,
    anomaly: bool = False,
    changed_code: bool = False,
    changed_images: bool = False,
) -> dict[str, Any]:
    """What happened in step `step` (from 1) of the run in `path`: see `ganzoo.training.diagnosis.examine`.

    Played from the newest checkpoint before it, or from the beginning. With `anomaly` torch names the operation whose
    backward gave NaN. `state` is a digest of all tensors after the step; `same` says whether a checkpoint of that step
    holds the same (None where there is none). Raises UsageError for a step the run has not reached.
    """
    run = Run.open(path)
    if not changed_code:
        refuse_changed_code(run, zoo)
    device = find_device(device_name or run.environment["device"].partition(":")[0])
    table = build_setup(run.recipe, zoo, device)
    game, feed = table.game, table.feed
    if not changed_images:
        refuse_other_images(run, feed.fingerprint)
    if run.environment.get("compile"):
        compile_networks(game, feed)
    progress = Progress(run.recipe.length, feed.images_at, feed.epoch_images)
    capture = run.environment.get("capture", True)  # a recorded step and a played one are the same bit for bit
    newest = checkpoints.load_latest(path / "checkpoints")
    reached = max([newest.meta["step"] if newest else 0, *(line["step"] for line in run.lines("stats.jsonl"))])
    reached = max(reached, (run.diagnosis or {}).get("step", 0))
    if not 1 <= step <= reached:
        raise UsageError(f"--step {step}: {path} has played the steps 1 to {reached}.")
    before = checkpoints.load_latest(path / "checkpoints", images=feed.images_at(step - 1))
    if before is not None:
        game.restore(before.tensors)
        progress.step = before.meta["step"]
    found: dict[str, Any] = {}
    started = progress.step
    with torch.autograd.set_detect_anomaly(anomaly):
        while progress.step < step:
            examined = progress.step == step - 1
            update: Any = partial(_examined, anomaly=anomaly) if examined else train_step
            found = run_step(game, feed, run.recipe.seed, progress.step, update) or {}
            progress.step += 1
    state = _digest(game.state())
    return {
        "run": str(path),
        "step": step,
        "images": progress.images,
        "played_from": started,
        **found,
        "state": state,
        "same": _same(path, f"{progress.images:09d}", state),
        "not_as_it_was": {name: list(pair) for name, pair in changed_environment(run, table, zoo, capture).items()},
    }


def _examined(game: Any, batches: Any, anomaly: bool) -> dict[str, Any]:
    try:
        return examine(game, batches)
    except RuntimeError as error:
        if not anomaly or "nan" not in str(error).lower():
            raise
        return {"anomaly": str(error).splitlines()[0]}


def _digest(state: dict[str, torch.Tensor]) -> str:
    # the meter's sums are emptied by every line of stats.jsonl, and no step depends on them
    played = {name: value for name, value in state.items() if not name.startswith("meter/")}
    return hashlib.sha256(tensors_to_bytes(played)).hexdigest()


def _same(path: Path, name: str, state: str) -> bool | None:
    folder = path / "checkpoints" / name
    if not folder.is_dir():
        return None
    try:
        return _digest(checkpoints.load(folder)[0]) == state
    except GanzooError:
        return None
