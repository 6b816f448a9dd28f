"""Train: from a recipe to a run. `resume` calls the same loop; nothing else in the project trains."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.choice import Amount
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.protocol import Protocol
from ganzoo.contract.recipe import Recipe
from ganzoo.engine import distributed
from ganzoo.engine.compile import compile_networks
from ganzoo.engine.device import find_device
from ganzoo.engine.progress import Progress
from ganzoo.evaluation.scorer import Scorer
from ganzoo.registry.observers import Observers
from ganzoo.registry.provenance import refuse_changed_code
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo.training.environment import changed_environment, describe_changes, environment, refuse_other_images
from ganzoo.training.loop import TrainingLoop
from ganzoo.training.preflight import preflight
from ganzoo.training.signals import Interrupted, Signals


def train(
    run: Run,
    table: TrainingSetup,
    zoo: Zoo,
    saved: checkpoints.Saved | None = None,
    extra_observers: Mapping[str, object] | None = None,
    note: Callable[[str], None] = print,
    capture: bool = True,
    until: Callable[[list[dict[str, Any]]], bool] | None = None,
) -> TrainingProgress:
    """Play a run from `saved`, or from its beginning, to its end, and say where that is.

    `extra_observers` are observers beside the recipe's own, by name. `capture` lets CUDA steps be recorded.
    `until` is asked about the lines of every score, and ends the run there, as one that can be resumed, if it says so.
    Raises Interrupted, with everything saved, on a signal.
    """
    observers, session = Observers({}), None
    error: BaseException | None = None
    try:
        with Signals().installed() as stop:
            with distributed.all_or_none():
                if run.writes:  # only the process that writes has anything to show
                    named = {
                        zoo.full_name("observers", one): zoo.build("observers", one) for one in run.recipe.observers
                    }
                    observers = Observers({**named, **(extra_observers or {})})
                note = note if run.writes else _say_nothing
                session = TrainingLoop(run, table, observers, note, capture, _scorer(run, table, zoo), until)
                session.restore(saved)
            session.observers.tell("on_run_start", run=run)
            session.play(stop)
            if stop.number and (not (session.progress.done or session.reached) or session.score_due):
                words = (
                    f"Stopped by {signal.Signals(stop.number).name} after step {session.progress.step}; everything is "
                    f"saved. Continue with: ganzoo resume {run.path}"
                )
                raise Interrupted(stop.number, words if run.writes else "")
            if session.scoring_seconds:
                share = session.scoring_seconds / session.seconds
                note(f"Scoring took {session.scoring_seconds:.1f} s, {share:.0%} of the run.")
    except BaseException as caught:
        error = caught
        raise
    finally:
        try:
            if session is not None:
                # told twice to end: at once, and half a checkpoint is none
                session.close(1 if isinstance(error, KeyboardInterrupt) else None)
            observers.tell_end(run, error)
        finally:
            table.feed.close()
            run.close()
    return session.progress.snapshot


def _say_nothing(text: str) -> None:
    pass


def _scorer(run: Run, table: TrainingSetup, zoo: Zoo) -> Scorer | None:
    """What scores the generator on the way; None where the recipe asks for no scores, or another rank writes them."""
    recipe = table.recipe
    if not recipe.evaluators or not run.writes:
        return None
    assert recipe.dataset is not None  # noqa: S101  (a run's recipe is complete)
    protocol = Protocol.named(recipe.protocol)
    scorer = Scorer(
        zoo,
        recipe.dataset,
        recipe.evaluators,
        table.device,
        protocol,
        recipe.score_samples or None,
        conditional=table.architecture.conditional,
    )
    if recipe.best_by and recipe.best_by not in scorer.names:
        raise UsageError(f"--best-by {recipe.best_by!r} is not a score of this run; it has: {', '.join(scorer.names)}.")
    return scorer


def start(recipe: Recipe, out: Path, zoo: Zoo, device: torch.device, **more: Any) -> tuple[Run, TrainingProgress]:
    """A new run in `out`, played to its end. `more` goes to `train`, save `compile`."""
    distributed.init_process_group(device)
    with distributed.all_or_none():
        Run.refuse_taken(out)  # before anything is fetched or built
    table, writes = _rehearsed(recipe, zoo, device), distributed.rank() == 0
    _compile(table, more)
    with distributed.all_or_none():
        facts = environment(table, zoo, more.get("capture", True))
        run = Run.create(out, recipe, facts) if writes else Run(out, recipe)
    try:
        return run, train(run, table, zoo, **more)
    except GanzooError as error:
        if writes and not run.begun and not isinstance(error, Interrupted):
            run.discard()  # refused before the first step: nothing half-written stays in the way of the next try
        raise


def _compile(table: TrainingSetup, more: dict[str, Any]) -> None:
    """Compile the networks if that is asked for, and say what is not."""
    if (
        more.pop("compile", False)
        and (left_out := compile_networks(table.game, table.feed))
        and distributed.rank() == 0
    ):
        more.get("note", print)(left_out)


def _rehearsed(recipe: Recipe, zoo: Zoo, device: torch.device) -> TrainingSetup:
    """A recipe at the table, and rehearsed: on all processes, or on none."""
    with distributed.all_or_none():
        table = build_setup(recipe, zoo, device)
    with distributed.all_or_none():  # apart: a loss may tell the other processes what it has seen
        preflight(table, zoo)
    return table


def resume(
    path: Path,
    zoo: Zoo,
    device_name: str | None = None,
    length: Amount | None = None,
    changed_code: bool = False,
    changed_images: bool = False,
    **more: Any,
) -> tuple[Run, TrainingProgress]:
    """Continue the run in `path`, to a new total `length` if given.

    Raises GanzooError where nothing is left to do, or where a part's file or the training images have changed and
    `changed_code`, or `changed_images`, is not set.
    """
    reading = Run.open(path)
    if not changed_code:
        refuse_changed_code(reading, zoo)
    then = reading.environment
    device = find_device(device_name or then["device"].partition(":")[0])
    more.setdefault("compile", bool(then.get("compile")))
    if then["device"].startswith("cuda"):  # on a CPU nothing is recorded, whatever was asked for
        more.setdefault("capture", then.get("capture", True))
    distributed.init_process_group(device)
    table, run = _rehearsed(reading.recipe, zoo, device), reading
    _compile(table, more)
    try:
        with distributed.all_or_none():
            if not changed_images:
                refuse_other_images(reading, table.feed.fingerprint)
            run = Run.open(path, writes=True) if distributed.rank() == 0 else reading
            saved = _taken_up(run, table, length)
            changed = changed_environment(run, table, zoo, more.get("capture", True)) if run.writes else {}
            if changed and more.get("until"):  # what is timed is timed in one way
                words = "; ".join(describe_changes(changed))
                raise GanzooError(f"{path} was begun otherwise ({words}): go on as it was begun, or remove it.")
    except BaseException:
        run.close()
        raise
    if run.taken_over:
        more.get("note", print)(f"The process that wrote {path} before is gone without having ended it; going on.")
    for what in describe_changes(changed):
        more.get("note", print)(f"Resumed with {what}: no longer the same bit for bit.")
    return run, train(run, table, zoo, saved, **more)


def _taken_up(run: Run, table: TrainingSetup, length: Amount | None) -> checkpoints.Saved | None:
    """The newest good checkpoint of a run, whose length is `length` from now on if given.

    Raises GanzooError where there is nothing left to do, or nothing to go on from.
    """
    path = run.path
    saved = checkpoints.load_latest(path / "checkpoints")
    progress = Progress(length or run.recipe.length, table.feed.images_at, table.feed.epoch_images)
    progress.step = saved.meta["step"] if saved else 0
    if saved and run.writes:  # a process that was killed over it has not
        checkpoints.prune(path / "checkpoints", f"{saved.meta['images']:09d}", spared=run.spared)
    if saved is None and len(list((path / "generators").glob("*.safetensors"))) > 1:
        raise GanzooError(  # one may be older than the first checkpoint; to begin anew would remove them all
            f"{path} has generators and no checkpoint to go on from: put its folder checkpoints back."
        )
    at_end = bool(run.recipe.evaluators) and length in (None, run.recipe.length)
    broken_off = at_end and not run.scored_at(progress.step)  # by a signal, in the last score
    if progress.done and not broken_off:
        asked, now = progress.length, progress.snapshot
        played = int(asked.count_of(now.step, now.images, now.epochs))
        more = f", more than {asked}" if played > asked.count else ""
        raise UsageError(
            f"{path} has already played {f'{played} {asked.unit}' if more else f'its {asked}'}{more}; to play on, name "
            f"a larger total, for example `ganzoo resume {path} --{asked.unit} {played + -(-played // 2)}`."
        )
    if length is not None:
        run.lengthen(length)
    return saved
