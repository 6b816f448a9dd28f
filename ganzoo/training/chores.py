"""What is done between two steps: statistics, sample grids and scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from ganzoo.contract.choice import Amount, short_name
from ganzoo.contract.components import class_names
from ganzoo.engine import distributed
from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.engine.sampler import balanced_labels, draw_all, draw_latents
from ganzoo.evaluation.fakes import FakeBatches, subject_of
from ganzoo.evaluation.ranks import ScoringCancelled
from ganzoo.evaluation.scorer import Scorer
from ganzoo.storage import pictures
from ganzoo.training.checkpointer import Checkpointer
from ganzoo.training.health import SPREAD_FAKES, HealthMonitor
from ganzoo.training.heartbeat import Heartbeat
from ganzoo.training.signals import Signals


class Chores:
    """The statistics, sample grids and scores of a run in this process; only the process that writes the run writes."""

    def __init__(
        self,
        checkpointer: Checkpointer,
        graph: StepGraph,
        note: Callable[[str], None],
        scorer: Scorer | None = None,
        stop_when: Callable[[list[dict[str, Any]]], bool] | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self.heartbeat = heartbeat or Heartbeat([])
        self.checkpointer, self.graph, self.note = checkpointer, graph, note
        self.scorer, self.stop_when = scorer, stop_when
        self.run, self.setup, self.progress = checkpointer.run, checkpointer.setup, checkpointer.progress
        self.observers, self.stopwatch = checkpointer.observers, checkpointer.stopwatch
        #: whether `stop_when` accepted the scores that were made last
        self.stop_condition_met = False
        #: whether the last look found scores that are due and not made
        self.scores_missing = False
        self._eager_steps_noted = False
        setup = self.setup
        self._health = HealthMonitor(
            setup.feed.read(torch.arange(min(256, setup.feed.length)))[0], list(setup.game.losses)
        )
        rows, self._columns = setup.recipe.grid_shape
        self._latents = draw_latents(setup.architecture, rows * self._columns, setup.device, setup.recipe.seed)
        conditional = setup.architecture.conditional
        row_labels = balanced_labels(rows, setup.dataset.spec.classes if conditional else 1, setup.device)
        self._labels = row_labels.repeat_interleave(self._columns)  # a conditional grid shows one class in each row
        names = class_names(setup.dataset)
        self._row_names = [names[label] for label in row_labels.tolist()] if conditional else []

    def tick(self, partial: bool = False) -> None:
        """Append the means since the last tick to stats.jsonl. Raises GanzooError where one of them is not finite."""
        self.checkpointer.writer.settle()
        scalars = self.setup.game.running_means.read()
        if not scalars:
            return
        if distributed.any_rank(not all(map(math.isfinite, scalars.values()))):
            self.checkpointer.raise_diverged()
        self._note_eager_steps()
        progress = self.progress.snapshot
        seconds, images_per_second = self.stopwatch.tick(progress.images)
        line = {
            "step": progress.step,
            "images": progress.images,
            "epoch": progress.epochs,
            **{name: round(value, 6) for name, value in scalars.items()},
            "seconds": round(seconds, 3),
            "images_per_second": round(images_per_second, 1),
            **({"partial": True} if partial else {}),
        }
        if self.run.writes:
            self.run.append("stats.jsonl", line)
            self.observers.tell("on_tick", run=self.run, progress=progress, scalars=line)
            self._warn(self._health.tick(scalars))

    def save_samples(self) -> None:
        """Write a grid of fakes from latents that stay the same during the run; its name is the images seen."""
        if not self.run.writes:
            return
        self.checkpointer.writer.settle()
        setup, progress = self.setup, self.progress.snapshot
        images = draw_all(setup.game.ema.network, setup.architecture, self._latents, self._labels)
        parts = short_name(setup.recipe.architecture), short_name(setup.recipe.dataset)
        title = " · ".join((*parts, f"epoch {progress.epochs:.4g}"))
        path = self.run.file("samples", progress, ".png")
        pictures.save_png(pictures.grid(images, self._columns, title, self._row_names), path)
        self.heartbeat.means(self.progress, setup.game.running_means.look())
        self.observers.tell("on_samples", run=self.run, progress=progress, path=path)
        if progress.step:  # before the first step all fakes are alike
            self._warn(self._health.fakes(progress.step, self._trained_fakes()))

    def _trained_fakes(self) -> torch.Tensor:
        """Fakes of the trained weights, not of their EMA, from latents that stay the same: uint8 (N, C, H, W)."""
        setup = self.setup
        latents = draw_latents(setup.architecture, SPREAD_FAKES, setup.device, setup.recipe.seed)
        labels = balanced_labels(len(latents), setup.dataset.spec.classes, setup.device)
        return draw_all(setup.game.generator, setup.architecture, latents, labels)

    @property
    def score_intervals(self) -> tuple[Amount, ...]:
        """How often the run is scored: one interval, or none where the recipe has no evaluators."""
        return (self.setup.recipe.score_every,) if self.setup.recipe.evaluators else ()

    def score_due(self) -> bool:
        """Whether scores are due at this step and scores.jsonl lacks them, for example because a signal came.

        The first process decides. Each process must call this.
        """
        progress = self.progress
        due = bool(progress.step and (progress.done or any(map(progress.crossed, self.score_intervals))))
        if due and self.run.writes:
            names = set(self.scorer.names) if self.scorer is not None else set()
            due = not names <= self.run.scored_at(progress.step)
        self.scores_missing = distributed.any_rank(due and self.run.writes)
        return self.scores_missing

    def score(self, signals: Signals, partial: bool = False) -> None:
        """Score the generator as it is now, append the scores to scores.jsonl, and save a checkpoint of this step.

        All processes compute the features, see `Scorer.score_on_all_processes`, so each must call this. A signal to one
        of them cancels it; the resumed run does it then.
        """
        if self.scorer is None:
            return
        setup, scorer, progress = self.setup, self.scorer, self.progress.snapshot
        started = time.monotonic()

        def stopped() -> bool:
            """Called before each batch of images."""
            self.heartbeat(self.progress, f"scoring, {time.monotonic() - started:.0f} s")
            return bool(signals.number)

        try:
            with self.stopwatch.scoring():
                fakes = FakeBatches(
                    *(setup.game.ema.network, setup.architecture, setup.game.images),
                    *(scorer.samples, setup.device, scorer.seed),
                )
                lines = scorer.score_on_all_processes(fakes, subject_of(setup.recipe, progress.images), stopped)
        except ScoringCancelled:
            self.scores_missing = True
            signals.received_on_any_rank(distributed.max_over_ranks)  # so that all processes stop with this signal
            return
        self.scores_missing = False
        if self.run.writes:
            self._keep_scores(lines, partial)
        if not self.progress.done:
            self.checkpointer.save()  # so that this generator can be scored again, and the run continued from it

    def _keep_scores(self, lines: list[dict[str, Any]], partial: bool) -> None:
        """Append the scores to scores.jsonl, and call `stop_when` and the observers."""
        progress = self.progress.snapshot
        when = {"step": progress.step, "images": progress.images, "epoch": progress.epochs, "training": True}
        when |= {"partial": True} if partial else {}
        when["seconds"] = round(self.stopwatch.seconds, 3)
        when["scoring_seconds"] = round(self.stopwatch.scoring_seconds, 3)
        lines = [{**line, **when} for line in lines]
        self.stop_condition_met = self.stop_when is not None and self.stop_when(lines)
        written = self.run.scored_at(progress.step)  # a full disk or a power cut may have left some of the lines
        self.run.append("scores.jsonl", *(line for line in lines if line["score"] not in written))
        self.observers.tell("on_score", run=self.run, progress=progress, scores=lines)

    def _warn(self, text: str | None) -> None:
        if text:
            self.note(f"Warning at step {self.progress.step}: {text}")

    def _note_eager_steps(self) -> None:
        if self.graph.reason and self.setup.device.type == "cuda" and not self._eager_steps_noted:
            self._eager_steps_noted = True
            self.note(f"Steps run eagerly, without a CUDA graph: {self.graph.reason}.")
