"""All hooks, on one page. One offers parts, the others observe; none acts in the loop, on purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from ganzoo.storage.run import Run

hookspec = pluggy.HookspecMarker("ganzoo")
hookimpl = pluggy.HookimplMarker("ganzoo")

#: entry-point group and kind, by the word of the command line
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
    """A part that can be had by name. Nothing of it is imported until it is named.

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
class Moment:
    """Where a run stands: whole steps played, real images seen, passes over the training images."""

    step: int
    images: int
    epochs: float


class ComponentHooks:
    """Offers parts that cannot be written down as entry points, such as all members of another library."""

    @hookspec
    def ganzoo_components(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Parts computed at run time. Called once, when the zoo first looks for names."""


class RunHooks:
    """What an observer may see of a run. An error in an observer ends the run with its name on it."""

    @hookspec
    def on_run_start(self, run: Run) -> None:
        """The run directory is open and nothing has been played yet in this process."""

    @hookspec
    def on_tick(self, run: Run, moment: Moment, scalars: dict[str, Any]) -> None:
        """Means since the last tick, as Python numbers; the line that was appended to stats.jsonl."""

    @hookspec
    def on_samples(self, run: Run, moment: Moment, path: Path) -> None:
        """A sample grid was written."""

    @hookspec
    def on_checkpoint(self, run: Run, moment: Moment, path: Path) -> None:
        """A checkpoint was committed."""

    @hookspec
    def on_score(self, run: Run, moment: Moment, scores: list[dict[str, Any]]) -> None:
        """Scores were appended to scores.jsonl."""

    @hookspec
    def on_run_end(self, run: Run, error: BaseException | None) -> None:
        """The run ended, by itself (None) or by `error`. Every observer is told, also when another one raises."""
