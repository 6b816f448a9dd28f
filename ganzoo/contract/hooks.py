"""The hooks of plugins: three add parts, commands and trained generators, the others are called during a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pluggy

from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.run_view import RunView

#: increased when a change of the contract needs a change in plugins
API_VERSION = 1

hookspec = pluggy.HookspecMarker("ganzoo")
hookimpl = pluggy.HookimplMarker("ganzoo")

#: every kind of part, as the command line and the entry points write it, and the name of its base class in `ganzoo`
KINDS = {
    "architectures": "Architecture",
    "datasets": "Dataset",
    "losses": "Loss",
    "optimizers": "Optimizer",
    "augmentations": "Augmentation",
    "extractors": "Extractor",
    "evaluators": "Evaluator",
    "observers": "Observer",
    "launchers": "Launcher",
}


def kind_named(text: str) -> str:
    """The key of `KINDS` for a kind in the singular or the plural: "losses" for `loss` and for `losses`.

    Raises UsageError, with all kinds, for another text.
    """
    for kind, base in KINDS.items():
        if text in (kind, base.lower()):
            return kind
    raise UsageError(f"There is no kind {text!r}.{did_you_mean(text, KINDS)} The kinds are: {', '.join(KINDS)}.")


@dataclasses.dataclass(frozen=True)
class Component:
    """A part that can be used by name. Its module is imported when the part is first used.

    `kind` is a key of `KINDS`, `target` is `package.module:Class`. The zoo fills in `distribution` and `version`.
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
class Command:
    """A command that a plugin adds to the command line. Its module is imported when the command is run.

    `target` is `package.module:attribute` and names a `click.Command`; `help` is its line in `ganzoo --help`. The zoo
    fills in `distribution` and `version`.
    """

    name: str
    target: str
    help: str = ""
    distribution: str = ""
    version: str = ""

    @property
    def id(self) -> str:
        """`distribution/name`."""
        return f"{self.distribution}/{self.name}"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A trained generator that a plugin ships as package data: `ganzoo sample pretrained:NAME`.

    `name` is written `architecture/dataset`. `target` is `package:folder`: the folder below an importable package that
    holds card.json and the weights, as `benchmarks/make_pretrained.py` writes them. The zoo fills in `distribution` and
    `version`.
    """

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
    """Progress of a training: steps done, real images seen, and epochs (passes over the training images) so far."""

    step: int
    images: int
    epochs: float


#: the name of `TrainingProgress` before version 0.2
Moment = TrainingProgress


class PluginHooks:
    """The hooks of an installed module: entry point group `ganzoo`. A plugin adds only what these hooks return."""

    @hookspec
    def ganzoo_components(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """The parts that this plugin adds. Called once in a process, before the first name is looked up."""

    @hookspec
    def ganzoo_commands(self) -> Iterable[Command]:  # type: ignore[empty-body]
        """The commands that this plugin adds to `ganzoo`. Called at the same time as `ganzoo_components`."""

    @hookspec
    def ganzoo_pretrained(self) -> Iterable[Pretrained]:  # type: ignore[empty-body]
        """The trained generators that this plugin ships. Called at the same time as `ganzoo_components`."""


_RENAMED = {
    "moment": DeprecationWarning(
        "The hook argument `moment` is now called `progress`; the old name works until version 0.3."
    )
}
_observer_hookspec = hookspec(warn_on_impl_args=_RENAMED)


class RunHooks:
    """The hooks of an observer: each is called at one point of a run.

    An error in a hook ends the run, and the message names the observer. If the observer is `optional`, the run goes on
    instead: there is one warning, and in this process no hook of that observer is called again, except `on_run_end`.
    `progress` is the progress of the training; `moment` is the old name of this argument.
    """

    @hookspec
    def on_run_start(self, run: RunView) -> None:
        """The run directory is open. No step has been done in this process yet."""

    @_observer_hookspec
    def on_tick(
        self, run: RunView, progress: TrainingProgress, scalars: dict[str, Any], moment: TrainingProgress
    ) -> None:
        """A line was appended to stats.jsonl: `scalars` is that line, means since the last tick as Python numbers."""

    @_observer_hookspec
    def on_samples(self, run: RunView, progress: TrainingProgress, path: Path, moment: TrainingProgress) -> None:
        """A grid of samples was written to `path`."""

    @_observer_hookspec
    def on_checkpoint(self, run: RunView, progress: TrainingProgress, path: Path, moment: TrainingProgress) -> None:
        """A checkpoint was written to `path` and is complete."""

    @_observer_hookspec
    def on_score(
        self, run: RunView, progress: TrainingProgress, scores: list[dict[str, Any]], moment: TrainingProgress
    ) -> None:
        """Scores were appended to scores.jsonl: `scores` are those lines."""

    @hookspec
    def on_run_end(self, run: RunView, error: BaseException | None) -> None:
        """The run ended: normally (`error` is None) or by `error`. All observers are called, also if one raises."""
