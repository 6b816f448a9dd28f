"""Run one step of a run again, exactly as it was, and examine it. Nothing is written to the run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.engine.compile import compile_networks
from ganzoo.engine.device import find_device
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.engine.step import run_step
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
    """What step `step` (from 1) of the run in `path` computes: see `ganzoo.training.diagnosis.examine`.

    Training starts again at the newest checkpoint before the step, or at the beginning. With `anomaly`, torch names
    the operation whose backward pass returned NaN. `state` is a sha256 of all tensors after the step; `same` tells
    whether a checkpoint of that step holds the same tensors (None where there is no such checkpoint). Raises UsageError
    for a step that the run has not reached, GanzooError where a part's file or the images have changed and
    `changed_code` or `changed_images` is not set.
    """
    run = Run.open(path)
    if not changed_code:
        refuse_changed_code(run, zoo)
    device = find_device(device_name or run.environment["device"].partition(":")[0])
    setup = build_setup(run.recipe, zoo, device)
    game, feed, seed = setup.game, setup.feed, run.recipe.seed
    if not changed_images:
        refuse_other_images(run, feed.fingerprint)
    if run.environment.get("compile"):
        compile_networks(game, feed)
    last = _last_step(run)
    if not 1 <= step <= last:
        raise UsageError(f"--step {step}: {path} has trained steps 1 to {last}.")
    before = checkpoints.load_latest(path / "checkpoints", images=feed.images_at(step - 1))
    first = 0
    if before is not None:
        game.restore(before.tensors)
        first = before.meta["step"]
    with torch.autograd.set_detect_anomaly(anomaly):
        for earlier in range(first, step - 1):
            run_step(game, feed, seed, earlier)
        found = run_step(game, feed, seed, step - 1, _examine_anomaly if anomaly else examine)
    state, images = _fingerprint(game.state()), feed.images_at(step)
    # steps recorded as CUDA graphs and eager ones are the same bit for bit, so `capture` is not compared
    changed = changed_environment(run, setup, zoo, run.environment.get("capture", True))
    return {
        "run": str(path),
        "step": step,
        "images": images,
        "played_from": first,
        **found,
        "state": state,
        "same": _same(path / "checkpoints" / f"{images:09d}", state),
        "not_as_it_was": {name: list(pair) for name, pair in changed.items()},
    }


def _last_step(run: Run) -> int:
    """The last step that the run is known to have trained."""
    saved = checkpoints.load_latest(run.path / "checkpoints")
    ticks = [line["step"] for line in run.lines("stats.jsonl")]
    reached: list[int] = [saved.meta["step"] if saved else 0, (run.diagnosis or {}).get("step", 0), *ticks]
    return max(reached)


def _examine_anomaly(game: Game, batches: Sequence[Batch]) -> dict[str, Any]:
    """What `examine` finds; where torch's anomaly detection raises, its message."""
    try:
        return examine(game, batches)
    except RuntimeError as error:
        if "nan" not in str(error).lower():
            raise
        return {"anomaly": str(error).splitlines()[0]}


def _fingerprint(state: dict[str, torch.Tensor]) -> str:
    # without the sums of the running means: each line of stats.jsonl resets them, and no step depends on them
    tensors = {name: value for name, value in state.items() if not name.startswith("meter/")}
    return hashlib.sha256(tensors_to_bytes(tensors)).hexdigest()


def _same(checkpoint: Path, state: str) -> bool | None:
    if not checkpoint.is_dir():
        return None
    try:
        return _fingerprint(checkpoints.load(checkpoint)[0]) == state
    except GanzooError:
        return None
