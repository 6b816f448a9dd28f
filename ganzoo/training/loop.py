"""Session: one process's part in a run: steps until the clock has run out, and the chores between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ganzoo.contract.choice import Amount, short_name
from ganzoo.contract.components import class_names
from ganzoo.contract.errors import GanzooError
from ganzoo.engine import distributed
from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.engine.progress import Progress
from ganzoo.engine.sampler import balanced_labels, draw_all, draw_latents
from ganzoo.engine.step import graphed, run_step
from ganzoo.evaluation.features import ScoringCancelled
from ganzoo.evaluation.scorer import Scorer, fakes_of, subject_of
from ganzoo.registry.observers import Observers
from ganzoo.storage import checkpoints, pictures
from ganzoo.storage.background import BackgroundWriter
from ganzoo.storage.files import write_atomically
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import is_finite, refuse_infinite, tensors_to_bytes
from ganzoo.training.build import TrainingSetup
from ganzoo.training.diagnosis import divergence, first_bad_step
from ganzoo.training.health import HealthMonitor
from ganzoo.training.signals import Signals

#: steps between two looks at whether all numbers are finite still
_LOOK_EVERY = 50
_HOST = torch.device("cpu")


class TrainingLoop:
    """One process's part in a run: the table, the clock, the files, and those who watch."""

    def __init__(
        self,
        run: Run,
        table: TrainingSetup,
        observers: Observers,
        note: Callable[[str], None],
        capture: bool = True,
        scorer: Scorer | None = None,
        until: Callable[[list[dict[str, Any]]], bool] | None = None,
    ) -> None:
        self.run, self.table, self.observers, self.note, self.scorer = run, table, observers, note, scorer
        #: whether the lines of a score end the run, and whether some have
        self.until, self.reached = until, False
        game, recipe = table.game, table.recipe
        self.progress = Progress(run.recipe.length, table.feed.images_at, table.feed.epoch_images)
        self.seconds = 0.0
        #: of `seconds`, what went into scores
        self.scoring_seconds = 0.0
        self._saved_step = -1
        self._since = time.perf_counter()
        self._ticked = (0, 0.0)
        rows, self.columns = recipe.grid_shape
        self.fixed_latents = draw_latents(table.architecture, rows * self.columns, table.device, recipe.seed)
        classes = table.dataset.spec.classes if table.architecture.conditional else 1
        # a conditional grid shows one class a row
        self.fixed_labels = balanced_labels(rows, classes, table.device).repeat_interleave(self.columns)
        self.graph = StepGraph(table.device, game.random, capture, game.uncapturable)
        self._said_eager = False
        self._stop = Signals()
        self._writer = BackgroundWriter()
        self._watch = HealthMonitor(table.feed.read(torch.arange(min(256, table.feed.length)))[0])
        #: the state when all numbers were last seen to be finite, on the device: a copy to the host would take longer
        #: than the steps between two looks
        self._good = self._snapshot(table.device)

    def restore(self, saved: checkpoints.Saved | None) -> None:
        """Take up a checkpoint, or begin where the run has none yet; either way, forget what lies beyond."""
        if saved is not None:
            for note in saved.notes:
                self.note(note)
            self.table.game.restore(saved.tensors)
            self.progress.step, self.seconds = saved.meta["step"], saved.meta["seconds"]
            self.scoring_seconds = saved.meta.get("scoring_seconds", 0.0)
            self._ticked = (saved.meta["ticked_images"], saved.meta["ticked_seconds"])
            self._since = time.perf_counter() - self.seconds
        if self.run.writes:
            self._cut_back()
        self._good = self._snapshot(self.table.device)

    def _cut_back(self) -> None:
        """Leave the files as an uninterrupted run would have them now."""
        recipe = self.table.recipe
        due = {"samples": (recipe.samples_every,), "generators": (recipe.checkpoint_every, *self._score_every)}
        undue = [folder for folder, intervals in due.items() if not any(map(self.progress.crossed, intervals))]
        self.run.cut_back(self.progress.snapshot, undue)

    @property
    def _score_every(self) -> tuple[Amount, ...]:
        return (self.table.recipe.score_every,) if self.table.recipe.evaluators else ()

    @property
    def score_due(self) -> bool:
        """Whether a score is due at this moment that is not written down: it was broken off."""
        due = self.progress.step and (self.progress.done or any(map(self.progress.crossed, self._score_every)))
        names = set(self.scorer.names) if self.scorer is not None else set()
        return bool(due) and not names <= self.run.scored_at(self.progress.step)

    def _over(self) -> bool:
        """Whether the run has come to its end: all processes agree, and one of them knows the scores."""
        self.reached = self.until is not None and distributed.any_rank(self.reached)
        return self.progress.done or self.reached

    def play(self, stop: Signals) -> None:
        """The loop: steps until the clock has run out, or a score was good enough; chores between them."""
        self._stop = stop
        progress, game, feed, recipe = self.progress, self.table.game, self.table.feed, self.table.recipe
        chores = [(recipe.tick_every, self.tick), (recipe.samples_every, self.save_samples)]
        chores += [(interval, self.score) for interval in self._score_every]
        self._since = time.perf_counter() - self.seconds
        if progress.step == 0:
            self.save_samples()
        if self.score_due and not progress.done:
            self.score()
        while not self._over():
            batches = feed.fill(progress.step)  # which images: a pure function of the step
            if stop.received_on_any_rank(
                distributed.max_over_ranks
            ):  # the processes meet here: one that could not read is missed, not waited for
                break
            run_step(game, feed, recipe.seed, progress.step, graphed(self.graph), batches)
            progress.step += 1
            self.run.begun = True
            if progress.step % _LOOK_EVERY == 0:
                self._look()
            for interval, chore in chores:
                if progress.crossed(interval):
                    chore()
            if progress.crossed(recipe.checkpoint_every) and not progress.done:
                self.save_checkpoint()
        self._end()

    def close(self, seconds: float | None = None) -> None:
        """Wait for what is being written; at most so many seconds, if given."""
        self._writer.close(seconds)

    def _end(self) -> None:
        """The last checkpoint; before it, where the run has come to its end, the last lines and pictures.

        In this order, so that a crash in between is a run that has not come to its end. The state is taken first: what
        a longer run would take back must not be in it.
        """
        state = self._snapshot()
        if self.progress.done or self.reached:
            if not self.progress.crossed(self.table.recipe.tick_every):
                self.tick(partial=True)
            if not self.progress.crossed(self.table.recipe.samples_every):
                self.save_samples()
            if self.score_due:
                self.score(partial=not any(map(self.progress.crossed, self._score_every)))
        self._commit(*state)
        self._writer.settle()

    # --- chores ---

    def tick(self, partial: bool = False) -> None:
        """Means since the last tick into stats.jsonl, then to the observers. Raises GanzooError for one not finite."""
        self._writer.settle()
        scalars = self.table.game.running_means.read()
        if not scalars:
            return
        if distributed.any_rank(not all(map(math.isfinite, scalars.values()))):
            self._diverged()
        if self.graph.reason and self.table.device.type == "cuda" and not self._said_eager:
            self._said_eager = True
            self.note(f"Steps are played eagerly: {self.graph.reason}.")
        progress, self.seconds = self.progress.snapshot, time.perf_counter() - self._since
        images, seconds = self._ticked
        playing = self.seconds - self.scoring_seconds
        rate = (progress.images - images) / max(playing - seconds, 1e-9)
        self._ticked = (progress.images, playing)
        line = {
            "step": progress.step,
            "images": progress.images,
            "epoch": progress.epochs,
            **{name: round(value, 6) for name, value in scalars.items()},
            "seconds": round(self.seconds, 3),
            "images_per_second": round(rate, 1),
            **({"partial": True} if partial else {}),
        }
        if self.run.writes:
            self.run.append("stats.jsonl", line)
            self.observers.tell("on_tick", run=self.run, progress=progress, scalars=line)
            self._warn(self._watch.tick(scalars))

    def save_samples(self) -> None:
        """A grid of the fixed latents, named by images seen."""
        if not self.run.writes:
            return
        self._writer.settle()
        table, progress = self.table, self.progress.snapshot
        images = draw_all(table.game.ema.network, table.architecture, self.fixed_latents, self.fixed_labels)
        names = class_names(table.dataset)
        rows = self.fixed_labels[:: self.columns].tolist() if table.architecture.conditional else []
        names_of_parts = (short_name(table.recipe.architecture), short_name(table.recipe.dataset))
        title = " · ".join((*names_of_parts, f"epoch {progress.epochs:.4g}"))
        path = self.run.file("samples", progress, ".png")
        pictures.save_png(pictures.grid(images, self.columns, title, [names[label] for label in rows]), path)
        self.observers.tell("on_samples", run=self.run, progress=progress, path=path)
        if progress.step:  # before the first step all fakes are alike
            self._warn(self._watch.grid(images))

    def score(self, partial: bool = False) -> None:
        """Score the generator as it stands, write it down, and keep the checkpoint of this moment if it is the best."""
        if self.scorer is None:
            return
        started, game, recipe, progress = (
            time.perf_counter(),
            self.table.game,
            self.table.recipe,
            self.progress.snapshot,
        )
        network, samples = game.ema.network, self.scorer.samples
        fakes = fakes_of(network, game.architecture, game.images, samples, game.device, self.scorer.seed)
        subject = subject_of(recipe, progress.images)
        when = {"step": progress.step, "images": progress.images, "epoch": progress.epochs, "training": True}
        when |= {"partial": True} if partial else {}
        try:
            lines = self.scorer.score(fakes, subject, lambda: bool(self._stop.number))
        except ScoringCancelled:
            return  # a signal: the score is made when the run is resumed
        finally:
            self.scoring_seconds += time.perf_counter() - started
            self.seconds = time.perf_counter() - self._since
        when |= {"seconds": round(time.perf_counter() - self._since, 3)}
        lines = [{**line, **when, "scoring_seconds": round(self.scoring_seconds, 3)} for line in lines]
        self.reached = self.until is not None and self.until(lines)
        made = self.run.scored_at(progress.step)  # where a full disk or a power cut left half of them
        self.run.append("scores.jsonl", *(line for line in lines if line["score"] not in made))
        self.observers.tell("on_score", run=self.run, progress=progress, scores=lines)
        if not self.progress.done:
            self.save_checkpoint()  # what was scored lies on disk: it can be scored again, and gone back to

    def save_checkpoint(self) -> None:
        """The whole state, and the generator alone beside it."""
        self._commit(*self._snapshot())

    def _snapshot(self, device: torch.device = _HOST) -> tuple[dict[str, Tensor], dict[str, Any]]:
        progress = self.progress.snapshot
        self.seconds = time.perf_counter() - self._since
        meta = {
            "step": progress.step,
            "images": progress.images,
            "seconds": self.seconds,
            "scoring_seconds": self.scoring_seconds,
            "ticked_images": self._ticked[0],
            "ticked_seconds": self._ticked[1],
        }
        return _copies(self.table.game.state(), device), meta

    def _commit(self, state: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Have a state written beside the training."""
        if not self.run.writes or self._saved_step == meta["step"]:
            return
        self._writer.settle()
        if distributed.world_size() > 1:
            refuse_infinite(state)  # the others are not here to play those steps again
        elif not is_finite(state):  # nor is anybody to draw from such a generator
            self._diverged()
        game, progress, run = self.table.game, self.progress.snapshot, self.run
        self._saved_step = progress.step
        network = _copies(game.ema.network.state_dict(), _HOST)
        spared = run.spared

        def write() -> Path:
            # first what a resumed run would not write again: a crash in between is cut back to the checkpoint before
            run.sync("stats.jsonl")
            run.sync("scores.jsonl")
            generator = tensors_to_bytes(network, {"images": str(progress.images)})
            write_atomically(run.file("generators", progress, ".safetensors"), generator)
            return checkpoints.save(run.path / "checkpoints", f"{progress.images:09d}", state, meta, spared=spared)

        self._writer.submit(
            write, lambda path: self.observers.tell("on_checkpoint", run=run, progress=progress, path=path)
        )

    # --- when something goes wrong ---

    def _warn(self, text: str | None) -> None:
        if text:
            self.note(f"Warning at step {self.progress.step}: {text}")

    def _look(self) -> None:
        """See whether all numbers are finite still, and keep the state if they are."""
        if distributed.any_rank(not bool(self.table.game.running_means.sums.isfinite().all())):
            self._diverged()
        self._good = self._snapshot(self.table.device)

    def _diverged(self) -> NoReturn:
        """Find the first bad step by playing again from the last good state, write it down, and end the run."""
        self._writer.settle()
        table, run, (state, meta) = self.table, self.run, self._good
        found = first_bad_step(table.game, table.feed, table.recipe.seed, state, meta["step"], self.progress.step)
        facts, words = divergence(found, self.progress.step, run.path, run.newest_checkpoint())
        if run.writes:
            run.write_diagnosis(facts)
        raise GanzooError(words)


def _copies(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Copies that no step changes."""
    return {name: value.detach().to(device, copy=True) for name, value in tensors.items()}
