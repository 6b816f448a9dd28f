"""Checkpoints of a run while it trains, and what happens when its numbers are no longer finite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ganzoo.contract.errors import GanzooError
from ganzoo.engine import distributed
from ganzoo.engine.progress import Progress
from ganzoo.registry.observers import Observers
from ganzoo.storage import checkpoints
from ganzoo.storage.background import BackgroundWriter
from ganzoo.storage.files import write_atomically
from ganzoo.storage.recipe_binding import recipe_text
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import is_finite, refuse_infinite, tensors_to_bytes
from ganzoo.training.build import TrainingSetup
from ganzoo.training.diagnosis import divergence, first_bad_step
from ganzoo.training.stopwatch import Stopwatch

#: the tensors of a game by name, and the meta.json of a checkpoint
Snapshot = tuple[dict[str, Tensor], dict[str, Any]]
_CPU = torch.device("cpu")


class Checkpointer:
    """Saves the state of a game, and keeps a copy of the last state that was finite."""

    def __init__(
        self, run: Run, setup: TrainingSetup, progress: Progress, stopwatch: Stopwatch, observers: Observers
    ) -> None:
        self.run, self.setup, self.progress = run, setup, progress
        self.stopwatch, self.observers = stopwatch, observers
        self.writer = BackgroundWriter()
        self._saved_step = -1
        #: whether history.json says that the run has had a checkpoint
        self.checkpoint_saved = False
        self.mark_finite()

    def save(self) -> None:
        """Save the whole state, and beside it the generator alone."""
        self.write(self.snapshot())

    def snapshot(self, device: torch.device = _CPU) -> Snapshot:
        """Copies of all tensors of the game on `device`, with the step, the images seen, the history and the times."""
        progress, history = self.progress.snapshot, self.setup.history
        meta = {"step": progress.step, "images": progress.images, **self.stopwatch.state()}
        if history is not None:
            meta["history"] = history.to_dict()
        return _copies(self.setup.game.state(), device), meta

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot of this step as a checkpoint, in the background.

        Raises GanzooError where a tensor is not finite, or where the files of the checkpoint before were not written.
        """
        state, meta = snapshot
        if not self.run.writes or self._saved_step == meta["step"]:
            return
        self.writer.settle()
        if distributed.world_size() > 1:
            refuse_infinite(state)  # looking for the first bad step would need the other processes, which go on
        elif not is_finite(state):
            self.raise_diverged()
        progress, run, spared = self.progress.snapshot, self.run, self.run.spared
        self._saved_step = progress.step
        network = _copies(self.setup.game.ema.network.state_dict(), _CPU)

        def write_files() -> Path:
            # The checkpoint comes last. After a crash before it, the resumed run cuts the other files back.
            run.sync("stats.jsonl")
            run.sync("scores.jsonl")
            facts = {"images": str(progress.images), "step": str(progress.step), "epoch": repr(progress.epochs)}
            generator = tensors_to_bytes(network, {**facts, "recipe": recipe_text(run.recipe, length=False)})
            write_atomically(run.file("generators", progress, ".safetensors"), generator)
            bound = {**meta, "recipe": recipe_text(run.recipe), "lines": run.count_lines(progress.step)}
            path = checkpoints.save(run.path / "checkpoints", f"{progress.images:09d}", state, bound, spared=spared)
            if not self.checkpoint_saved:  # after it: from now on a run without checkpoints must not start again
                self.checkpoint_saved = True
                run.write_history(meta.get("history", {}), saved=True)
            return path

        def tell(path: Path) -> None:
            self.observers.tell("on_checkpoint", run=run, progress=progress, path=path)

        self.writer.submit(write_files, tell)

    def check_finite(self) -> None:
        """Raise GanzooError where a running mean is not finite on any process; otherwise keep a copy of this state."""
        if distributed.any_rank(not bool(self.setup.game.running_means.sums.isfinite().all())):
            self.raise_diverged()
        self.mark_finite()

    def mark_finite(self) -> None:
        """Keep a copy of this state as the last one that is known to be finite."""
        # on the device: copying it to the CPU would take longer than the steps between two checks
        self._last_finite_state = self.snapshot(self.setup.device)

    def raise_diverged(self) -> NoReturn:
        """Find the first bad step after the last finite state, write diagnosis.json, and raise GanzooError."""
        self.writer.settle()
        setup, run, (state, meta) = self.setup, self.run, self._last_finite_state
        found = first_bad_step(setup.game, setup.feed, setup.recipe.seed, state, meta["step"], self.progress.step)
        facts, message = divergence(found, self.progress.step, run.path, run.newest_checkpoint())
        if run.writes:
            run.write_diagnosis(facts)
        raise GanzooError(message)


def _copies(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Copies that no step changes."""
    return {name: value.detach().to(device, copy=True) for name, value in tensors.items()}
