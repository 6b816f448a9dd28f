"""Faulty observers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import ganzoo


class Good(ganzoo.Observer):
    """Writes a line a tick."""

    @ganzoo.hookimpl
    def on_run_start(self, run: Any) -> None:
        self.path = run.path / "ticks.txt"

    @ganzoo.hookimpl
    def on_tick(self, run: Any, progress: ganzoo.TrainingProgress, scalars: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(f"{progress.step}\n")


class Unheard(Good):
    """A hook that was forgotten to be marked."""

    def on_samples(self, run: Any, progress: ganzoo.TrainingProgress, path: Path) -> None:
        raise RuntimeError("never called")


class Demanding(Good):
    """Wants a scalar that nobody promised."""

    @ganzoo.hookimpl
    def on_tick(self, run: Any, progress: ganzoo.TrainingProgress, scalars: dict[str, Any]) -> None:
        self.path.write_text(str(scalars["fid"]))


class Once(Good):
    """Makes a file that must not be there yet."""

    @ganzoo.hookimpl
    def on_run_start(self, run: Any) -> None:
        self.path = run.path / "ticks.txt"
        self.path.open("x").close()


class Panicking(Good):
    """Counts on having seen the start of the run it sees the end of."""

    @ganzoo.hookimpl
    def on_run_end(self, run: Any, error: BaseException | None) -> None:
        self.path.exists()


class Taking(Good):
    """Takes what it is told for its own."""

    @ganzoo.hookimpl
    def on_tick(self, run: Any, progress: ganzoo.TrainingProgress, scalars: dict[str, Any]) -> None:
        scalars.pop("seconds", None)


class Tidying(Good):
    """Removes the pictures."""

    @ganzoo.hookimpl
    def on_samples(self, run: Any, progress: ganzoo.TrainingProgress, path: Path) -> None:
        path.unlink(missing_ok=True)


class Drawing(Good):
    """Takes a little of the global random state."""

    @ganzoo.hookimpl
    def on_checkpoint(self, run: Any, progress: ganzoo.TrainingProgress, path: Path) -> None:
        random.random()


MUTANTS = {
    "hooks_are_known": Unheard,
    "observes_a_whole_run": Demanding,
    "observes_a_resumed_run": Once,
    "failed_run_raises_nothing": Panicking,
    "hook_arguments_are_left_alone": Taking,
    "files_of_the_run_are_left_alone": Tidying,
    "random_state_is_left_alone": Drawing,
}
