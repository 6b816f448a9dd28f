"""The training loop: steps until the run is finished, and the chores that are due after each step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ganzoo.engine import distributed
from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.engine.progress import Progress
from ganzoo.engine.step import graphed, run_step
from ganzoo.evaluation.scorer import Scorer
from ganzoo.registry.observers import Observers
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.build import TrainingSetup
from ganzoo.training.checkpointer import Checkpointer
from ganzoo.training.chores import Chores
from ganzoo.training.heartbeat import Heartbeat
from ganzoo.training.history import restore_history
from ganzoo.training.initial_weights import load_initial_weights
from ganzoo.training.schedules import learning_rate_notes
from ganzoo.training.signals import Signals
from ganzoo.training.stopwatch import Stopwatch

#: steps between two checks that all numbers are finite
_CHECK_EVERY = 50


class TrainingLoop:
    """Trains the run in `directory` in this process."""

    def __init__(
        self,
        directory: Run,
        setup: TrainingSetup,
        observers: Observers,
        note: Callable[[str], None],
        capture: bool = True,
        scorer: Scorer | None = None,
        stop_when: Callable[[list[dict[str, Any]]], bool] | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self.directory, self.setup, self.note = directory, setup, note
        self.heartbeat = heartbeat or Heartbeat([])
        self.progress = Progress(directory.recipe.length, setup.feed)
        self.stopwatch = Stopwatch()
        self.checkpointer = Checkpointer(directory, setup, self.progress, self.stopwatch, observers)
        self.graph = StepGraph(setup.device, setup.game.random, capture, setup.game.uncapturable)
        self.chores = Chores(self.checkpointer, self.graph, note, scorer, stop_when, self.heartbeat)
        #: whether `stop_when` ended the run
        self.stopped_early = False

    def restore(self, saved: checkpoints.Saved | None) -> None:
        """Continue from a checkpoint, or from the beginning without one; remove the files of steps beyond it."""
        if saved is None:
            load_initial_weights(self.directory, self.setup.game)
        else:
            for text in saved.notes:
                self.note(text)
            self.setup.game.restore(saved.tensors)
            self.progress.step = saved.meta["step"]
            self.stopwatch.restore(saved.meta)
        if self.setup.history is None:
            restore_history(self.setup, self.directory, saved)
        assert self.setup.history is not None  # noqa: S101  (restored above)
        progress, game = self.progress, self.setup.game
        game.set_length(self.setup.feed.images_at(progress.last_step))
        for text in learning_rate_notes(game.optimizers, self.setup.feed.images_at, progress.step, progress.last_step):
            self.note(text)
        if self.directory.writes:
            self.directory.cut_back(self.progress.snapshot)
            self.checkpointer.checkpoint_saved = saved is not None
            self.directory.write_history(self.setup.history.to_dict(), saved=saved is not None)
        self.checkpointer.mark_finite()

    def run(self, signals: Signals) -> None:
        """Train until the run is finished, a signal arrives, or `stop_when` accepts a score. Save everything."""
        game, feed, recipe = self.setup.game, self.setup.feed, self.setup.recipe
        progress, chores, checkpointer = self.progress, self.chores, self.checkpointer
        update, score = graphed(self.graph), partial(chores.score, signals)
        schedule = [(recipe.tick_every, chores.tick), (recipe.samples_every, chores.save_samples)]
        schedule += [(interval, score) for interval in chores.score_intervals]

        self.stopwatch.start()
        if progress.step == 0:
            chores.save_samples()
        if chores.score_due() and not progress.done:
            score()

        while not self._finished():
            batches = feed.fill(progress.step)  # which images: a function of the step alone
            # All processes meet here, so a signal to one stops all at the same step. A process that failed to read
            # its batches is gone by now, and the others notice.
            if signals.received_on_any_rank(distributed.max_over_ranks):
                break
            run_step(game, feed, recipe.seed, progress.step, update, batches)
            progress.step += 1
            self.directory.begun = True
            self.heartbeat(progress)

            if progress.step % _CHECK_EVERY == 0:
                checkpointer.check_finite()
            for interval, chore in schedule:
                if progress.crossed(interval):
                    chore()
            if progress.crossed(recipe.checkpoint_every) and not progress.done:
                checkpointer.save()

        self._end(signals)

    def close(self, seconds: float | None = None) -> None:
        """Wait until the files in the background are written, at most so many seconds if given."""
        self.checkpointer.writer.close(seconds)

    def _finished(self) -> bool:
        """Whether the run is finished, on all processes alike: only the first one keeps scores."""
        chores = self.chores
        self.stopped_early = chores.stop_when is not None and distributed.any_rank(chores.stop_condition_met)
        return self.progress.done or self.stopped_early

    def _end(self, signals: Signals) -> None:
        """Write the last checkpoint; before it, where the run is finished, the last statistics, samples and scores.

        After a crash in between, the run is not finished and can be resumed. The state is copied first: a run that is
        made longer continues from it, and must not depend on where the shorter one ended.
        """
        progress, chores, recipe = self.progress, self.chores, self.setup.recipe
        snapshot = self.checkpointer.snapshot()
        if progress.done or self.stopped_early:
            if not progress.crossed(recipe.tick_every):
                chores.tick(partial=True)
            if not progress.crossed(recipe.samples_every):
                chores.save_samples()
            if chores.score_due():
                chores.score(signals, partial=not any(map(progress.crossed, chores.score_intervals)))
        self.checkpointer.write(snapshot)
        self.checkpointer.writer.settle()
