"""Faulty observers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import ganzoo


class Good(ganzoo.Observer):
    """Writes one line for each tick."""

    @ganzoo.hookimpl
    def on_run_start(self, run: Any) -> None:
        self.path = run.path / "ticks.txt"

    @ganzoo.hookimpl
    def on_tick(self, run: Any, progress: ganzoo.TrainingProgress, scalars: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(f"{progress.step}\n")


class Unheard(Good):
    """A hook without @ganzoo.hookimpl."""

    def on_samples(self, run: Any, progress: ganzoo.TrainingProgress, path: Path) -> None:
        raise RuntimeError("never called")


class Undecided(Good):
    """Does not say whether it is optional."""

    optional = "sometimes"


class Demanding(Good):
    """Needs a scalar that a run need not have."""

    @ganzoo.hookimpl
    def on_tick(self, run: Any, progress: ganzoo.TrainingProgress, scalars: dict[str, Any]) -> None:
        self.path.write_text(str(scalars["fid"]))


class Once(Good):
    """Fails if its file exists already."""

    @ganzoo.hookimpl
    def on_run_start(self, run: Any) -> None:
        self.path = run.path / "ticks.txt"
        self.path.open("x").close()


class Panicking(Good):
    """Fails at the end of a run whose start it has not seen."""

    @ganzoo.hookimpl
    def on_run_end(self, run: Any, error: BaseException | None) -> None:
        self.path.exists()


class Taking(Good):
    """Changes the arguments of a hook."""

    @ganzoo.hookimpl
    def on_tick(self, run: Any, progress: ganzoo.TrainingProgress, scalars: dict[str, Any]) -> None:
        scalars.pop("seconds", None)


class Tidying(Good):
    """Removes the sample grids."""

    @ganzoo.hookimpl
    def on_samples(self, run: Any, progress: ganzoo.TrainingProgress, path: Path) -> None:
        path.unlink(missing_ok=True)


class Drawing(Good):
    """Draws from the global random generator."""

    @ganzoo.hookimpl
    def on_checkpoint(self, run: Any, progress: ganzoo.TrainingProgress, path: Path) -> None:
        random.random()


MUTANTS = {
    "hooks_are_known": Unheard,
    "optional_is_true_or_false": Undecided,
    "observes_a_whole_run": Demanding,
    "observes_a_resumed_run": Once,
    "failed_run_raises_nothing": Panicking,
    "hook_arguments_are_left_alone": Taking,
    "files_of_the_run_are_left_alone": Tidying,
    "random_state_is_left_alone": Drawing,
}
