"""Train a recipe into a new run, or resume a run. All training of the project goes through `train`."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.choice import Amount
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.recipe import Recipe
from ganzoo.engine import distributed
from ganzoo.engine.compile import compile_networks
from ganzoo.engine.device import find_device
from ganzoo.evaluation.scorer import Scorer
from ganzoo.registry.observers import Observers
from ganzoo.registry.provenance import refuse_changed_code
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.recipe_binding import check_recipe
from ganzoo.storage.run import Run
from ganzoo.training import elastic
from ganzoo.training.build import TrainingSetup, build_scorer, build_setup
from ganzoo.training.continuation import differences, last_checkpoint, same_checkpoint, set_length, set_recipe
from ganzoo.training.early_stop import EarlyStop
from ganzoo.training.environment import environment, refuse_other_images
from ganzoo.training.heartbeat import Heartbeat
from ganzoo.training.history import history_of, restore_history
from ganzoo.training.initial_weights import facts_of, in_words, initial_weights, record
from ganzoo.training.introduction import introduction
from ganzoo.training.loop import TrainingLoop
from ganzoo.training.preflight import preflight
from ganzoo.training.recipe_changes import changed_recipe, moved_dataset
from ganzoo.training.signals import Interrupted, Signals, signal_in_words

#: printed at once at Ctrl-C
_STOPPING = "Stopping after this step and saving; Ctrl-C again stops at once."


def start(
    recipe: Recipe, out: Path, zoo: Zoo, device: torch.device, start_from: Path | None = None, **more: Any
) -> tuple[Run, TrainingProgress]:
    """Train a recipe to its end, as a new run in the directory `out`; the run, and how far it was trained.

    Where torchrun started this process, a run of the same recipe in `out` is continued from its last checkpoint.
    `start_from` is a run, or a checkpoint of another program, whose weights the training starts from. `more` are the
    keywords of `train`, and `compile`: whether networks go through `torch.compile`. Raises UsageError where `out` holds
    something else already, or a finished run, or the weights do not fit; GanzooError where a part cannot be built or
    fails.
    """
    distributed.init_process_group(device)
    writes, note = distributed.rank() == 0, more.get("note", print)
    job = elastic.Job.current()
    if writes and job is not None and job.advice:
        note(job.advice)
    if elastic.continues_run(out, recipe):  # before anything is downloaded or built
        if writes:
            note(f"{out} holds this run already: it is continued.")
        finished_too = elastic.is_of_this_job(Run.open(out))
        return resume(out, zoo, str(device), finished_too=finished_too, **more)
    setup = _checked_setup(recipe, zoo, device)
    _compile(setup, more)
    with distributed.all_or_none():
        facts = environment(setup, zoo, more.get("capture", True))
        facts |= {"torchrun_job": job.name} if job is not None and job.name else {}
        weights = initial_weights(start_from, recipe, setup.game, zoo) if start_from else None
        if weights is not None:
            facts["initial_weights"] = facts_of(weights)
            if writes:
                note(in_words(weights))
        run = Run.create(out, recipe, facts, elastic.job_name()) if writes else Run(out, recipe)
        if writes and weights is not None:
            record(run, weights)
    try:
        elastic.require_shared_for_restarts(out)
        with _stopped_at_once(run):
            return run, train(run, setup, zoo, **more)
    except GanzooError as error:
        run.close()
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
    changes: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    finished_too: bool = False,
    **more: Any,
) -> tuple[Run, TrainingProgress]:
    """Continue the run in `path` from its newest good checkpoint, to a new total `length` if given.

    The device, `capture` and `compile` are those the run was started with, unless others are given. `changes` are
    fields of the recipe that change from here on, see `changed_recipe`; `dataset` is the new `path` of a dataset that
    has moved. `more` is as in `start`. Raises UsageError where there is nothing left to train, unless `finished_too`
    is set, and GanzooError where a part's file or the training images have changed, unless `changed_code` or
    `changed_images` is set.
    """
    reader = Run.open(path)
    zoo = recorded_zoo(reader, zoo)
    # before parts of another recipe are built
    check_recipe(path, reader.recipe, reader.first_recipe, "the run", reader.recipe_changes)
    recipe = changed_recipe(reader.recipe, changes or {}, zoo)
    recipe = moved_dataset(recipe, dataset, zoo) if dataset else recipe
    if not changed_code:
        refuse_changed_code(reader, zoo)
    before = reader.environment
    device = find_device(device_name or before["device"].partition(":")[0])
    more.setdefault("compile", bool(before.get("compile")))
    if before["device"].startswith("cuda"):  # on a CPU no steps are recorded, so it does not say what was asked for
        more.setdefault("capture", before.get("capture", True))
    distributed.init_process_group(device)
    setup = _checked_setup(recipe, zoo, device)
    _compile(setup, more)
    run, saved = _opened(reader)
    try:
        with distributed.all_or_none():
            images = history_of(setup, run, saved).segments[-1].training_images
            if not changed_images:
                refuse_other_images(run, images, setup.feed.fingerprint)
            restore_history(setup, run, saved)
            changed = differences(run, setup, zoo, more, images)
            if changes:
                build_scorer(setup, zoo)  # raises, before anything is written, for a score that the run does not have
            set_length(run, setup, zoo, saved, length, finished_too)
            made = set_recipe(run, setup, saved)
    except BaseException:
        run.close()
        raise
    note = more.get("note", print)
    if run.taken_over:
        note(f"The process that wrote {path} before has died without finishing; its run is continued.")
    for change in changed:
        note(f"Resumed with {change}: the numbers are no longer the same bit for bit.")
    for text in made:
        note(f"From step {saved.meta['step'] if saved else 0} on, {text}.")
    with _stopped_at_once(run):
        return run, train(run, setup, zoo, saved, **more)


def _opened(reader: Run) -> tuple[Run, checkpoints.Saved | None]:
    """The run, which the first process may write, and the checkpoint to continue from: the same on all processes."""
    run, saved = reader, None
    try:
        with distributed.all_or_none():
            if distributed.rank() == 0:
                run = elastic.open_to_write(reader.path)
                saved = last_checkpoint(run)
        return run, same_checkpoint(run, saved)
    except BaseException:
        run.close()
        raise


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
        with Signals(_STOPPING if run.writes else "").installed() as signals:
            note = note if run.writes else _discard
            scorer = _scorer(setup, zoo)
            with distributed.all_or_none():
                if run.writes:
                    observers = _observers(run.recipe, zoo, extra_observers, note)
                heartbeat = Heartbeat((extra_observers or {}).values() if run.writes else ())
                early_stop = EarlyStop(run, setup.recipe.early_stop) if setup.recipe.early_stop else None
                stop = _either(stop_when, early_stop)
                loop = TrainingLoop(run, setup, observers, note, capture, scorer, stop, heartbeat)
                loop.restore(saved)
                if early_stop is not None and run.writes:  # a process may have died between its last score and its end
                    loop.chores.stop_condition_met = early_stop()
            for text in introduction(setup, run.recipe.length) if introduce else ():
                note(text)
            if saved is None:
                _note_missing_classes(setup, note)
            observers.tell("on_run_start", run=run)
            with heartbeat.watching(loop.progress):
                loop.run(signals)
            _raise_interrupted(signals, loop)
            _note_end(loop, early_stop, note)
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


def _note_end(loop: TrainingLoop, early_stop: EarlyStop | None, note: Callable[[str], None]) -> None:
    """Say where and why the run has stopped early, and how much of its time the scores took."""
    if loop.stopped_early and early_stop is not None and early_stop():
        note(early_stop.describe(loop.progress.step))
    if loop.stopwatch.scoring_seconds:
        scoring, seconds = loop.stopwatch.scoring_seconds, loop.stopwatch.seconds
        note(f"Scoring took {scoring:.1f} s, {scoring / seconds:.0%} of the run.")


def _discard(text: str) -> None:
    """The notes of a process that does not write the run: the first process shows the same ones."""


def _scorer(setup: TrainingSetup, zoo: Zoo) -> Scorer | None:
    """The scorer of the recipe's evaluators on every process, or on none.

    The first process is the first to build it: what it downloads or trains is in the cache when the others need it,
    and they need not read all real images for their sha256.
    """
    scorer, first = None, distributed.rank() == 0
    with distributed.all_or_none():
        scorer = build_scorer(setup, zoo) if first else None
    known = distributed.from_first_rank(scorer.sha256_of_reals if scorer else {})
    said, zoo.note = zoo.note, zoo.note if first else _discard
    try:
        with distributed.all_or_none():
            return scorer if first else build_scorer(setup, zoo, known)
    finally:
        zoo.note = said


def _observers(
    recipe: Recipe, zoo: Zoo, extra_observers: Mapping[str, object] | None, note: Callable[[str], None]
) -> Observers:
    """The observers of the recipe by their full names, and the extra ones. `note` receives their warnings."""
    named = {zoo.full_name("observers", choice): zoo.build("observers", choice) for choice in recipe.observers}
    return Observers({**named, **(extra_observers or {})}, note)


def _either(
    stop_when: Callable[[list[dict[str, Any]]], bool] | None, early_stop: EarlyStop | None
) -> Callable[[list[dict[str, Any]]], bool] | None:
    """A function that returns True where one of the two does; None without both."""
    if early_stop is None:
        return stop_when
    rule = early_stop
    return lambda lines: (stop_when is not None and stop_when(lines)) or rule(lines)


@contextmanager
def _stopped_at_once(run: Run) -> Iterator[None]:
    """Raise Interrupted after a second Ctrl-C, with what is saved: the steps since then are lost."""
    try:
        yield
    except KeyboardInterrupt:
        newest = checkpoints.newest_step(run.path / "checkpoints")
        saved = "no step is saved yet" if newest is None else f"step {newest} is saved, the steps after it are not"
        command = f"ganzoo resume {shlex.quote(str(run.path))}"
        message = f"Stopped at once by Ctrl-C; {saved}. Continue with: {command}"
        raise Interrupted(signal.SIGINT, message if run.writes else "") from None


def _raise_interrupted(signals: Signals, loop: TrainingLoop) -> None:
    """Raise Interrupted where a signal arrived before the run was finished and scored."""
    if not signals.number or ((loop.progress.done or loop.stopped_early) and not loop.chores.scores_missing):
        return
    name, step, run = signal_in_words(signals.number), loop.progress.step, loop.directory
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
