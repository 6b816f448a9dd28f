"""Run one step of a run again, exactly as it was, and examine it. Nothing is written to the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.choice import Amount
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.engine.compile import compile_networks
from ganzoo.engine.device import find_device
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.engine.history import History
from ganzoo.engine.progress import Progress
from ganzoo.engine.step import run_step
from ganzoo.registry.provenance import refuse_changed_code
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.recipe_binding import check_recipe
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import tensors_to_bytes
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo.training.diagnosis import examine
from ganzoo.training.environment import changed_environment, refuse_other_images
from ganzoo.training.history import history_of
from ganzoo.training.initial_weights import load_initial_weights


def replay(
    path: Path,
    zoo: Zoo,
    step: int,
    device_name: str | None = None,
    anomaly: bool = False,
    changed_code: bool = False,
    changed_images: bool = False,
    note: Callable[[str], None] = print,
) -> dict[str, Any]:
    """What step `step` (from 1) of the run in `path` computes: see `ganzoo.training.diagnosis.examine`.

    Training starts again at the newest checkpoint before the step, or at the beginning. With `anomaly`, torch names
    the operation whose backward pass returned NaN. `state` is a sha256 of all tensors after the step; `same` tells
    whether a checkpoint of that step holds the same tensors (None where there is no such checkpoint). `note` receives
    messages for the user. Raises UsageError for a step that the run has not reached, GanzooError where the recipe, a
    part's file or the images have changed and `changed_code` or `changed_images` is not set.
    """
    run = Run.open(path)
    zoo = recorded_zoo(run, zoo)
    check_recipe(path, run.recipe, run.first_recipe, "the run", run.recipe_changes)
    if not changed_code:
        refuse_changed_code(run, zoo)
    device = find_device(device_name or run.environment["device"].partition(":")[0])
    setup = build_setup(run.recipe, zoo, device)
    game, feed, seed = setup.game, setup.feed, run.recipe.seed
    newest = checkpoints.load_latest(path / "checkpoints")
    history = _history(setup, run, newest)
    images = history.segment_at(step - 1).training_images if step >= 1 else ""
    if not changed_images:
        refuse_other_images(run, images, feed.fingerprint)
    if run.environment.get("compile"):
        compile_networks(game, feed)
    last = _last_step(run, newest, note)
    if not 1 <= step <= last:
        trained = f"steps 1 to {last}" if last else "no step yet"
        raise UsageError(f"--step {step}: {path} has trained {trained}.")
    first = _restore_before(setup, history, path, step)
    with torch.autograd.set_detect_anomaly(anomaly):
        for earlier in range(first, step - 1):
            game.set_length(_images_of_run(setup, history.length_at(earlier)))
            run_step(game, feed, seed, earlier)
        game.set_length(_images_of_run(setup, history.length_at(step - 1)))
        found = run_step(game, feed, seed, step - 1, _examine_anomaly if anomaly else examine)
    state = _fingerprint(game.state())
    # steps recorded as CUDA graphs and eager ones are the same bit for bit, so `capture` is not compared
    changed = changed_environment(run, setup, zoo, run.environment.get("capture", True), images)
    return {
        "run": str(path),
        "step": step,
        "images": feed.images_at(step),
        "played_from": first,
        **found,
        "state": state,
        "same": _same(path / "checkpoints" / f"{feed.images_at(step):09d}", state, note),
        "not_as_it_was": {name: list(pair) for name, pair in changed.items()},
    }


def _restore_before(setup: TrainingSetup, history: History, path: Path, step: int) -> int:
    """Restore the newest checkpoint before `step`, and return its step; 0 for the beginning of the training.

    Raises GanzooError where the images of the steps between were other ones.
    """
    setup.feed.use_segments([segment for segment in history.segments if segment.step < step])
    before, first = checkpoints.load_latest(path / "checkpoints", step=step - 1), 0
    if before is not None:
        setup.game.restore(before.tensors)
        first = before.meta["step"]
    else:
        load_initial_weights(Run.open(path), setup.game)
    changed = history.changes[-1][0] if history.changes else 0
    if history.changes and (step <= changed or first < changed):
        why = "" if step <= changed else f", and {path} has no checkpoint between the two"
        raise GanzooError(
            f"Step {step} cannot be replayed: the recipe was changed after step {changed} (resume --set){why}; replay "
            f"a later step."
        )
    if first < (begin := history.segment_at(step - 1).step):
        raise GanzooError(
            f"Step {step} cannot be replayed: the training images were changed after step {begin}, and {path} has no "
            f"checkpoint between the two; replay a later step."
        )
    return first


def _history(setup: TrainingSetup, run: Run, newest: checkpoints.Saved | None) -> History:
    """The history of the run, with what began at its newest checkpoint and is in no checkpoint yet."""
    history, step = history_of(setup, run, newest), newest.meta["step"] if newest else 0
    with suppress(ValueError, KeyError, TypeError, AttributeError, UsageError):
        # history.json has no digest: only the fingerprint, which is compared with the images, is taken from it
        last = History.from_dict(run.history or {}).segments[-1]
        if last.step == step and last.training_images != history.segments[-1].training_images:
            counts = setup.feed.next_segment(history.segments, step)
            history = history.with_segments(
                [*history.up_to(step).segments, replace(counts, training_images=last.training_images)]
            )
    return history.with_length(step, run.recipe.length)


def _images_of_run(setup: TrainingSetup, length: Amount) -> int:
    """The number of images that a run of this length has seen at its end."""
    return setup.feed.images_at(Progress(length, setup.feed).last_step)


def _last_step(run: Run, saved: checkpoints.Saved | None, note: Callable[[str], None]) -> int:
    """The last step that the run is known to have trained. Raises GanzooError where its recipe was changed."""
    if saved is not None:
        notes = check_recipe(
            run.path, run.recipe, saved.meta.get("recipe"), "its newest checkpoint", run.recipe_changes
        )
        for text in [*saved.notes, *notes]:
            note(text)
    ticks = [line["step"] for line in run.lines("stats.jsonl")]
    bad_step = (run.diagnosis or {}).get("step")
    reached: list[int] = [saved.meta["step"] if saved else 0, bad_step if isinstance(bad_step, int) else 0, *ticks]
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


def _same(checkpoint: Path, state: str, note: Callable[[str], None]) -> bool | None:
    if not checkpoint.is_dir():
        return None
    try:
        return _fingerprint(checkpoints.load(checkpoint)[0]) == state
    except GanzooError as error:
        note(f"The step is not compared with its checkpoint: {error}")
        return None
