"""All hooks of a plugin, on one page: one offers parts, the others let observers see a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pluggy

from ganzoo.contract.run_view import RunView

#: raised when a change of the contract needs a change in plugins
API_VERSION = 1

hookspec = pluggy.HookspecMarker("ganzoo")
hookimpl = pluggy.HookimplMarker("ganzoo")

#: kind of part, as the command line and the entry points write it -> the base class of its parts
KINDS = {
    "architectures": "Architecture",
    "datasets": "Dataset",
    "losses": "Loss",
    "optimizers": "Optimizer",
    "augmentations": "Augmentation",
    "extractors": "Extractor",
    "evaluators": "Evaluator",
    "observers": "Observer",
}


@dataclasses.dataclass(frozen=True)
class Component:
    """A part that can be used by name. Nothing of it is imported until it is used.

    `kind` is a key of `KINDS`, `target` is `package.module:Class`; the zoo fills in `distribution` and `version`.
    """

    kind: str
    name: str
    target: str
    distribution: str = ""
    version: str = ""

    @property
    def id(self) -> str:
        """`distribution/name`."""
        return f"{self.distribution}/{self.name}"


@dataclasses.dataclass(frozen=True)
class TrainingProgress:
    """How far a training is: steps done, real images seen, and passes over the training images."""

    step: int
    images: int
    epochs: float


#: the name of `TrainingProgress` before version 0.2
Moment = TrainingProgress


class ComponentHooks:
    """Offers parts that cannot be written down as entry points, such as all members of another library."""

    @hookspec
    def ganzoo_components(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Parts computed at run time. Called once, when names are first looked up."""


_RENAMED = {
    "moment": DeprecationWarning(
        "The hook argument `moment` is now called `progress`; the old name works until version 0.3."
    )
}
_observer_hookspec = hookspec(warn_on_impl_args=_RENAMED)


class RunHooks:
    """What an observer may see of a run. An error in an observer ends the run with the observer's name on it.

    `moment` is the same as `progress`, under its old name.
    """

    @hookspec
    def on_run_start(self, run: RunView) -> None:
        """The run directory is open, and no step has been done in this process yet."""

    @_observer_hookspec
    def on_tick(
        self, run: RunView, progress: TrainingProgress, scalars: dict[str, Any], moment: TrainingProgress
    ) -> None:
        """Means since the last tick, as Python numbers: the line that was appended to stats.jsonl."""

    @_observer_hookspec
    def on_samples(self, run: RunView, progress: TrainingProgress, path: Path, moment: TrainingProgress) -> None:
        """A sample grid was written."""

    @_observer_hookspec
    def on_checkpoint(self, run: RunView, progress: TrainingProgress, path: Path, moment: TrainingProgress) -> None:
        """A checkpoint was committed."""

    @_observer_hookspec
    def on_score(
        self, run: RunView, progress: TrainingProgress, scores: list[dict[str, Any]], moment: TrainingProgress
    ) -> None:
        """Scores were appended to scores.jsonl."""

    @hookspec
    def on_run_end(self, run: RunView, error: BaseException | None) -> None:
        """The run ended, normally (None) or by `error`. Every observer is called, also when another one raises."""
