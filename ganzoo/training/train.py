"""Train a recipe into a new run, or resume a run. All training of the project goes through `train`."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.choice import Amount, amount_in_words
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
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.recipe_binding import check_recipe
from ganzoo.storage.run import Run
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo.training.environment import changed_environment, describe_changes, environment, refuse_other_images
from ganzoo.training.heartbeat import Heartbeat
from ganzoo.training.history import history_of, restore_history
from ganzoo.training.introduction import introduction
from ganzoo.training.loop import TrainingLoop
from ganzoo.training.preflight import preflight
from ganzoo.training.signals import Interrupted, Signals


def start(recipe: Recipe, out: Path, zoo: Zoo, device: torch.device, **more: Any) -> tuple[Run, TrainingProgress]:
    """Train a recipe to its end, as a new run in the directory `out`; the run, and how far it was trained.

    `more` are the keywords of `train`, and `compile`: whether networks go through `torch.compile`. Raises UsageError
    where `out` holds something already, GanzooError where a part cannot be built or fails.
    """
    distributed.init_process_group(device)
    with distributed.all_or_none():
        Run.refuse_taken(out)  # before anything is downloaded or built
    setup, writes = _checked_setup(recipe, zoo, device), distributed.rank() == 0
    _compile(setup, more)
    with distributed.all_or_none():
        facts = environment(setup, zoo, more.get("capture", True))
        run = Run.create(out, recipe, facts) if writes else Run(out, recipe)
    try:
        return run, train(run, setup, zoo, **more)
    except GanzooError as error:
        if writes and not run.begun and not isinstance(error, Interrupted):
            run.discard()  # no step was done: an empty run must not block the next attempt
        raise


def resume(
    path: Path,
    zoo: Zoo,
    device_name: str | None = None,
    length: Amount | None = None,
    changed_code: bool = False,
    changed_images: bool = False,
    **more: Any,
) -> tuple[Run, TrainingProgress]:
    """Continue the run in `path` from its newest good checkpoint, to a new total `length` if given.

    The device, `capture` and `compile` are those the run was started with, unless others are given. `more` is as in
    `start`. Raises GanzooError where there is nothing left to train, and where a part's file or the training images
    have changed, unless `changed_code` or `changed_images` is set.
    """
    reader = Run.open(path)
    zoo = recorded_zoo(reader, zoo)
    check_recipe(path, reader.recipe, reader.first_recipe, "the run")  # before parts of another recipe are built
    if not changed_code:
        refuse_changed_code(reader, zoo)
    before = reader.environment
    device = find_device(device_name or before["device"].partition(":")[0])
    more.setdefault("compile", bool(before.get("compile")))
    if before["device"].startswith("cuda"):  # on a CPU no steps are recorded, so it does not say what was asked for
        more.setdefault("capture", before.get("capture", True))
    distributed.init_process_group(device)
    setup, run = _checked_setup(reader.recipe, zoo, device), reader
    _compile(setup, more)
    try:
        with distributed.all_or_none():
            run = Run.open(path, writes=True) if distributed.rank() == 0 else reader
            saved = _last_checkpoint(run)
            images = history_of(setup, run, saved).segments[-1].training_images
            if not changed_images:
                refuse_other_images(run, images, setup.feed.fingerprint)
            changes = _changes(run, setup, zoo, more, images)
            restore_history(setup, run, saved)
            _set_length(run, setup, saved, length)
    except BaseException:
        run.close()
        raise
    note = more.get("note", print)
    if run.taken_over:
        note(f"The process that wrote {path} before has died without finishing; its run is continued.")
    for change in changes:
        note(f"Resumed with {change}: the numbers are no longer the same bit for bit.")
    return run, train(run, setup, zoo, saved, **more)


def _note_missing_classes(setup: TrainingSetup, note: Callable[[str], None]) -> None:
    """Say so where a subset leaves classes out, as the first images of class folders do."""
    found, classes = setup.feed.classes, setup.dataset.spec.classes
    if setup.recipe.subset != "all" and found is not None and found < classes:
        note(
            f"--subset {setup.recipe.subset!r} holds images of {found} of {classes} classes only, because it takes "
            "them in the order of the dataset: take more images, or make a dataset with fewer images of each class."
        )


def train(
    run: Run,
    setup: TrainingSetup,
    zoo: Zoo,
    saved: checkpoints.Saved | None = None,
    extra_observers: Mapping[str, object] | None = None,
    note: Callable[[str], None] = print,
    capture: bool = True,
    stop_when: Callable[[list[dict[str, Any]]], bool] | None = None,
    introduce: bool = False,
) -> TrainingProgress:
    """Train an open run from the checkpoint `saved`, or from the beginning, to its end; how far it was trained.

    `extra_observers` are observers by name, added to those of the recipe. `note` receives messages for the user.
    `capture` allows CUDA steps to be recorded as graphs. `stop_when` is called with the lines of scores.jsonl after
    each scoring; where it returns True, the run ends there and can be resumed. With `introduce`, notes before the first
    step say what is trained on what. Closes the run and the data feed.
    Raises Interrupted, with everything saved, after a signal.
    """
    observers, loop = Observers({}), None
    error: BaseException | None = None
    try:
        with Signals().installed() as signals:
            with distributed.all_or_none():
                note = note if run.writes else _discard
                if run.writes:
                    observers = _observers(run.recipe, zoo, extra_observers, note)
                heartbeat = Heartbeat((extra_observers or {}).values() if run.writes else ())
                scorer = _scorer(run, setup, zoo)
                loop = TrainingLoop(run, setup, observers, note, capture, scorer, stop_when, heartbeat)
                loop.restore(saved)
            for text in introduction(setup, run.recipe.length) if introduce else ():
                note(text)
            if saved is None:
                _note_missing_classes(setup, note)
            observers.tell("on_run_start", run=run)
            with heartbeat.watching(loop.progress):
                loop.run(signals)
            _raise_interrupted(signals, loop)
            if loop.stopwatch.scoring_seconds:
                scoring, seconds = loop.stopwatch.scoring_seconds, loop.stopwatch.seconds
                note(f"Scoring took {scoring:.1f} s, {scoring / seconds:.0%} of the run.")
    except BaseException as caught:
        error = caught
        raise
    finally:
        try:
            if loop is not None:
                # after a second Ctrl-C hardly wait for the disk: a checkpoint that is half written is never used
                loop.close(1 if isinstance(error, KeyboardInterrupt) else None)
            observers.tell_end(run, error)
        finally:
            setup.feed.close()
            run.close()
    return loop.progress.snapshot


def _discard(text: str) -> None:
    """The notes of a process that does not write the run: the first process shows the same ones."""


def _observers(
    recipe: Recipe, zoo: Zoo, extra_observers: Mapping[str, object] | None, note: Callable[[str], None]
) -> Observers:
    """The observers of the recipe by their full names, and the extra ones. `note` receives their warnings."""
    named = {zoo.full_name("observers", choice): zoo.build("observers", choice) for choice in recipe.observers}
    return Observers({**named, **(extra_observers or {})}, note)


def _scorer(run: Run, setup: TrainingSetup, zoo: Zoo) -> Scorer | None:
    """The scorer of the recipe's evaluators; None without evaluators, and on processes that do not write the run."""
    recipe = setup.recipe
    if not recipe.evaluators or not run.writes:
        return None
    assert recipe.dataset is not None  # noqa: S101  (the recipe of a run is complete)
    scorer = Scorer(
        zoo,
        recipe.dataset,
        recipe.evaluators,
        setup.device,
        Protocol.named(recipe.protocol),
        recipe.score_samples or None,
        conditional=setup.architecture.conditional,
    )
    if recipe.best_by and recipe.best_by not in scorer.names:
        raise UsageError(f"--best-by {recipe.best_by!r} is not a score of this run; it has: {', '.join(scorer.names)}.")
    return scorer


def _raise_interrupted(signals: Signals, loop: TrainingLoop) -> None:
    """Raise Interrupted where a signal arrived before the run was finished and scored."""
    if not signals.number or ((loop.progress.done or loop.stopped_early) and not loop.chores.score_due):
        return
    name, step, run = signal.Signals(signals.number).name, loop.progress.step, loop.directory
    command = f"ganzoo resume {shlex.quote(str(run.path))}"
    message = f"Stopped by {name} after step {step}; everything is saved. Continue with: {command}"
    raise Interrupted(signals.number, message if run.writes else "")


def _checked_setup(recipe: Recipe, zoo: Zoo, device: torch.device) -> TrainingSetup:
    """The setup of a recipe, built and checked: on all processes, or on none."""
    with distributed.all_or_none():
        setup = build_setup(recipe, zoo, device)
    with distributed.all_or_none():  # a block of its own: a loss may exchange tensors with the other processes
        preflight(setup, zoo)
    return setup


def _compile(setup: TrainingSetup, more: dict[str, Any]) -> None:
    """Take `compile` from the keywords; where it is set, compile the networks, and note which cannot be compiled."""
    compiling = more.pop("compile", False)
    if compiling and (left_out := compile_networks(setup.game, setup.feed)) and distributed.rank() == 0:
        more.get("note", print)(left_out)


def _changes(run: Run, setup: TrainingSetup, zoo: Zoo, more: Mapping[str, Any], images: str) -> list[str]:
    """What has changed since the run was started, in words; only for the process that writes.

    `images` is the fingerprint of the images that it was last trained on.
    """
    if not run.writes:
        return []
    changes = describe_changes(changed_environment(run, setup, zoo, more.get("capture", True), images))
    if changes and more.get("stop_when"):  # its time to a score would be measured on two different setups
        raise GanzooError(
            f"{run.path} was started differently ({'; '.join(changes)}): continue it as it was started, or remove it."
        )
    return changes


def _last_checkpoint(run: Run) -> checkpoints.Saved | None:
    """The newest good checkpoint of a run, or None where it was stopped before its first one.

    Raises GanzooError where the run had checkpoints and they are gone: to start again would remove its results.
    """
    saved = checkpoints.load_latest(run.path / "checkpoints")
    if saved is None and run.had_checkpoint:
        raise GanzooError(
            f"{run.path} has been trained and has no checkpoint to continue from: put its folder checkpoints back, or "
            f"train again in another directory (its generators can still be sampled)."
        )
    if saved is not None:
        saved.notes.extend(check_recipe(run.path, run.recipe, saved.meta.get("recipe"), "its newest checkpoint"))
        saved.notes.extend(run.lost_lines(saved.meta))
    return saved


def _set_length(run: Run, setup: TrainingSetup, saved: checkpoints.Saved | None, length: Amount | None) -> None:
    """Set the run's `length` if one is given. Raises UsageError where nothing is left to train."""
    progress = Progress(length or run.recipe.length, setup.feed)
    progress.step = saved.meta["step"] if saved else 0
    if saved and run.writes:  # a process that was killed while saving has not done this
        checkpoints.prune(run.path / "checkpoints", f"{saved.meta['images']:09d}", spared=run.spared)
    same_end = bool(run.recipe.evaluators) and length in (None, run.recipe.length)
    scores_missing = same_end and not run.scored_at(progress.step)  # a signal cancelled the last scores
    if progress.done and not scores_missing:
        raise UsageError(_nothing_left(run.path, progress))
    if length is not None:
        run.lengthen(length)
        assert setup.history is not None  # noqa: S101  (restored before)
        setup.history = setup.history.with_length(progress.step, length)


def _nothing_left(path: Path, progress: Progress) -> str:
    """The message that a run has reached its length, with a command that continues it."""
    length, now = progress.length, progress.snapshot
    trained = int(length.count_of(now.step, now.images, now.epochs))
    unit = length.unit
    done = f"its {amount_in_words(length)}"
    if trained > length.count:
        done = f"{trained} {unit}, more than {amount_in_words(length)}"
    return (
        f"{path} has already trained for {done}; to train longer, give a larger total, for example `ganzoo resume "
        f"{shlex.quote(str(path))} --{unit} {trained + -(-trained // 2)}`."
    )
