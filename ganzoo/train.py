"""Train: from a recipe to a run. `resume` calls the same loop; nothing else in the project trains."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ganzoo import checkpoint, pictures
from ganzoo.assembly import Table, assemble, changed_environment, class_names, environment, find_device, short_name
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.hooks import Moment
from ganzoo.contract.recipe import Amount, Recipe
from ganzoo.engine import ranks
from ganzoo.engine.clock import Clock
from ganzoo.engine.game import play
from ganzoo.engine.graph import StepGraph
from ganzoo.engine.sampler import balanced_labels, draw_all, draw_latents
from ganzoo.observers import Observers
from ganzoo.run import Run
from ganzoo.zoo import Zoo


class Interrupted(GanzooError):
    """A signal ended the run between two steps; everything is saved."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class _Signals:
    """SIGINT and SIGTERM end the run between two steps; a second SIGINT ends it at once."""

    def __init__(self) -> None:
        self.number = 0

    def _note(self, number: int, _: object) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    @contextmanager
    def watched(self) -> Iterator[_Signals]:
        """Watch them for a while."""
        # only the main thread may set handlers; a training in another one ends by other means
        watched = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._note) for number in watched}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Session:
    """One process's part in a run: the table, the clock, the files, and those who watch."""

    def __init__(
        self, run: Run, table: Table, observers: Observers, note: Callable[[str], None], capture: bool = True
    ) -> None:
        self.run, self.table, self.observers, self.note = run, table, observers, note
        game, recipe = table.game, table.recipe
        self.clock = Clock(run.recipe.length, table.feed.images_at, table.feed.epoch_images)
        self.seconds = 0.0
        self._since = time.perf_counter()
        self._ticked = (0, 0.0)
        rows, columns = recipe.grid_shape
        self.columns = columns
        self.fixed_latents = draw_latents(table.architecture, rows * columns, table.device, recipe.seed)
        classes = table.dataset.spec.classes if table.architecture.conditional else 1
        # a conditional grid shows one class a row
        self.fixed_labels = balanced_labels(rows, classes, table.device).repeat_interleave(columns)
        self.step = StepGraph(table.device, game.random, capture)
        self._said_eager = False

    def restore(self, saved: checkpoint.Saved | None) -> None:
        """Take up a checkpoint, or begin where the run has none yet; either way, forget what lies beyond."""
        if saved is not None:
            for note in saved.notes:
                self.note(note)
            self.table.game.restore(saved.tensors)
            self.clock.step, self.seconds = saved.meta["step"], saved.meta["seconds"]
            self._ticked = (saved.meta["ticked_images"], saved.meta["ticked_seconds"])
        if self.run.writes:
            self._cut_back()

    def _cut_back(self) -> None:
        """Leave the files as an uninterrupted run would have them now."""
        moment, recipe = self.clock.moment, self.table.recipe
        self.run.cut_back(moment)
        for folder, interval in (("samples", recipe.samples_every), ("generators", recipe.checkpoint_every)):
            if not self.clock.crossed(interval):
                for file in (self.run.path / folder).glob(f"{moment.images:09d}.*"):
                    file.unlink()

    def play(self, stop: _Signals) -> None:
        """The loop: steps until the clock has run out, chores between them."""
        clock, game, feed, recipe = self.clock, self.table.game, self.table.feed, self.table.recipe
        chores = (
            (recipe.tick_every, self.tick),
            (recipe.samples_every, self.save_samples),
            (recipe.checkpoint_every, self.save_checkpoint),
        )
        if clock.step == 0:
            self.save_samples()
        self._since = time.perf_counter() - self.seconds
        while not clock.done and not ranks.any_rank(bool(stop.number)):
            game.reseed(recipe.seed, clock.step)  # no random state to save, none to lose
            batches = feed.fill(clock.step)  # which images: a pure function of the step
            game.advance(clock.images)  # learning rates and other schedules, in place
            self.step(tuple(len(batch.labels) for batch in batches), lambda batches=batches: play(game, batches))  # type: ignore[misc]
            clock.step += 1
            self.run.begun = True
            for interval, chore in chores:
                if clock.crossed(interval):
                    chore()
        if not clock.crossed(recipe.checkpoint_every):
            self.save_checkpoint()

    def finish(self) -> None:
        """The last lines of a run that has come to its end, which a longer run would take back."""
        if not self.clock.crossed(self.table.recipe.tick_every):
            self.tick(partial=True)
        if not self.clock.crossed(self.table.recipe.samples_every):
            self.save_samples()

    # --- chores ---

    def tick(self, partial: bool = False) -> None:
        """Means since the last tick into stats.jsonl, then to the observers. Raises GanzooError for one not finite."""
        scalars = self.table.game.meter.read()
        if not scalars:
            return
        bad = [name for name, value in scalars.items() if not math.isfinite(value)]
        if bad:
            raise GanzooError(
                f"The training has diverged: {bad[0]} is {scalars[bad[0]]} at step {self.clock.step}. The last good "
                f"checkpoint is kept; train anew with a lower learning rate, or with a penalty, "
                f"--loss nonsaturating --loss r1."
            )
        if self.step.reason and self.table.device.type == "cuda" and not self._said_eager:
            self._said_eager = True
            self.note(f"Steps are played eagerly: {self.step.reason}.")
        moment, self.seconds = self.clock.moment, time.perf_counter() - self._since
        images, seconds = self._ticked
        rate = (moment.images - images) / max(self.seconds - seconds, 1e-9)
        self._ticked = (moment.images, self.seconds)
        line = {
            "step": moment.step,
            "images": moment.images,
            "epoch": moment.epochs,
            **{name: round(value, 6) for name, value in scalars.items()},
            "seconds": round(self.seconds, 3),
            "images_per_second": round(rate, 1),
            **({"partial": True} if partial else {}),
        }
        if self.run.writes:
            self.run.append("stats.jsonl", line)
            self.observers.tell("on_tick", run=self.run, moment=moment, scalars=line)

    def save_samples(self) -> None:
        """A grid of the fixed latents, named by images seen."""
        if not self.run.writes:
            return
        table, moment = self.table, self.clock.moment
        images = draw_all(table.game.average.network, table.architecture, self.fixed_latents, self.fixed_labels)
        names = class_names(table.dataset)
        rows = self.fixed_labels[:: self.columns].tolist() if table.architecture.conditional else []
        title = (
            f"{short_name(table.recipe.architecture)} · {short_name(table.recipe.dataset)} · epoch {moment.epochs:.4g}"
        )
        path = self.run.file("samples", moment, ".png")
        pictures.save_png(pictures.grid(images, self.columns, title, [names[label] for label in rows]), path)
        self.observers.tell("on_samples", run=self.run, moment=moment, path=path)

    def save_checkpoint(self) -> None:
        """The whole state, and the generator alone beside it."""
        if not self.run.writes:
            return
        game, moment = self.table.game, self.clock.moment
        self.seconds = time.perf_counter() - self._since
        meta = {
            "step": moment.step,
            "images": moment.images,
            "seconds": self.seconds,
            "ticked_images": self._ticked[0],
            "ticked_seconds": self._ticked[1],
        }
        state = game.state()
        checkpoint.refuse_infinite(state)  # nor is anybody to draw from such a generator
        # first what a resumed run would not write again: a crash in between is cut back to the checkpoint before
        self.run.sync("stats.jsonl")
        generator = checkpoint.tensors_to_bytes(game.average.network.state_dict(), {"images": str(moment.images)})
        checkpoint.write_atomically(self.run.file("generators", moment, ".safetensors"), generator)
        path = checkpoint.save(self.run.path / "checkpoints", f"{moment.images:09d}", state, meta)
        self.observers.tell("on_checkpoint", run=self.run, moment=moment, path=path)


def train(
    run: Run,
    table: Table,
    zoo: Zoo,
    saved: checkpoint.Saved | None = None,
    watching: Mapping[str, object] | None = None,
    note: Callable[[str], None] = print,
    capture: bool = True,
) -> Moment:
    """Play a run from `saved`, or from its beginning, to its end, and say where that is.

    `watching` are observers beside the recipe's own, by name; `capture` lets CUDA steps be recorded and replayed.
    Raises Interrupted, with everything saved, on a signal.
    """
    observers = Observers({})
    error: BaseException | None = None
    try:
        if run.writes:  # only the process that writes has anything to show
            named = {choice.name: zoo.build("observers", choice) for choice in run.recipe.observers}
            observers = Observers({**named, **(watching or {})})
        session = Session(run, table, observers, note, capture)
        with _Signals().watched() as stop:
            session.restore(saved)
            session.observers.tell("on_run_start", run=run)
            session.play(stop)
            if stop.number and not session.clock.done:
                raise Interrupted(
                    stop.number,
                    f"Stopped by {signal.Signals(stop.number).name} after step {session.clock.step}; everything is "
                    f"saved. Continue with: ganzoo resume {run.path}",
                )
            session.finish()
    except BaseException as caught:
        error = caught
        raise
    finally:
        try:
            observers.tell_end(run, error)
        finally:
            run.close()
    return session.clock.moment


def start(recipe: Recipe, out: Path, zoo: Zoo, device: torch.device, **more: Any) -> tuple[Run, Moment]:
    """A new run in `out`, played to its end. `more` goes to `train`."""
    Run.refuse_taken(out)  # before anything is fetched or built
    table = assemble(recipe, zoo, device)
    writes = ranks.rank() == 0
    run = Run.create(out, recipe, environment(table, zoo)) if writes else Run(out, recipe)
    try:
        return run, train(run, table, zoo, **more)
    except GanzooError as error:
        if writes and not run.begun and not isinstance(error, Interrupted):
            run.discard()  # refused before the first step: nothing half-written stays in the way of the next try
        raise


def resume(
    path: Path, zoo: Zoo, device_name: str | None = None, length: Amount | None = None, **more: Any
) -> tuple[Run, Moment]:
    """Continue the run in `path`, to a new total `length` if given. Raises GanzooError where nothing is left to do."""
    reading = Run.open(path)
    device = find_device(device_name or reading.environment["device"].partition(":")[0])
    table = assemble(reading.recipe, zoo, device)
    run = Run.open(path, writes=True) if ranks.rank() == 0 else reading
    try:
        saved = checkpoint.load_latest(path / "checkpoints")
        clock = Clock(length or run.recipe.length, table.feed.images_at, table.feed.epoch_images)
        clock.step = saved.meta["step"] if saved else 0
        if clock.done:
            played = clock.length
            raise UsageError(
                f"{path} has already played its {played}; to play on, name a larger total, for example "
                f"`ganzoo resume {path} --{played.unit} {played.count + -(-played.count // 2)}`."
            )
        if length is not None:
            run.lengthen(length)
    except BaseException:
        run.close()
        raise
    for name, (then, now) in changed_environment(run, table, zoo).items():
        more.get("note", print)(
            f"Resumed with another {name} ({then} then, {now} now): no longer the same bit for bit."
        )
    return run, train(run, table, zoo, saved, **more)
