"""What all trackers share: the events of a run in one order, read from its files or received from the hooks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import ganzoo

#: keys of a line of stats.jsonl that are no measured number
_NO_SCALARS = ("step", "partial")
#: the order of the events of one step
_ORDER = ("tick", "samples", "score")


@dataclasses.dataclass(frozen=True)
class Event:
    """A tick, a score or a grid of samples, after `step` steps and `images` real images.

    `line` is the line of stats.jsonl or scores.jsonl, or `{"path": ...}` with the path of the grid.
    """

    kind: Literal["tick", "score", "samples"]
    step: int
    images: int
    line: Mapping[str, Any]


class Tracker(ganzoo.Observer, ABC):
    """An observer that copies the events of a run to another program or file, and never ends the run.

    What it has logged depends on the files of the run alone. When a run starts or is resumed, the files hold exactly
    the steps up to the checkpoint, and `start` receives their events. It must remove what was logged beyond them, and
    add what is missing, for example because the tracker had failed. So nothing is logged twice.
    """

    optional: ClassVar[bool] = True

    def __init__(self) -> None:
        self._started = False
        #: seconds of training at the last tick or score
        self.seconds = 0.0

    @abstractmethod
    def start(self, run: Any, events: list[Event]) -> None:
        """Open the log of this run. Afterwards it holds these events, and no others."""

    @abstractmethod
    def log(self, run: Any, events: Iterable[Event]) -> None:
        """Add events of one step."""

    @abstractmethod
    def finish(self, run: Any, error: BaseException | None) -> None:
        """Close the log, also where `start` has failed."""

    @ganzoo.hookimpl
    def on_run_start(self, run: Any) -> None:
        """Log all events so far. Only rank 0 writes files."""
        if run.writes:
            self._started = True
            self.start(run, events_of(run))

    @ganzoo.hookimpl
    def on_tick(self, run: Any, scalars: dict[str, Any]) -> None:
        """Log the numbers of a line of stats.jsonl."""
        self.log(run, [tick(scalars)])

    @ganzoo.hookimpl
    def on_samples(self, run: Any, progress: ganzoo.TrainingProgress, path: Path) -> None:
        """Log a grid of samples."""
        self.log(run, [Event("samples", progress.step, progress.images, {"path": path})])

    @ganzoo.hookimpl
    def on_score(self, run: Any, scores: list[dict[str, Any]]) -> None:
        """Log the scores of one step."""
        self.log(run, [score(line) for line in scores])

    @ganzoo.hookimpl
    def on_run_end(self, run: Any, error: BaseException | None) -> None:
        """Close the log."""
        if self._started:
            self.finish(run, error)

    def time_of(self, run: Any, event: Event) -> float:
        """When an event happened, in seconds since 1970, computed from the run: its start, and seconds of training.

        Events must be passed in their order. A grid has the time of the tick or score before it. No event is earlier
        than the one before it: a score that a resumed run has kept may have been made later than its next tick.
        """
        self.seconds = max(self.seconds, event.line.get("seconds", 0.0))
        return float((run.path / "environment.json").stat().st_mtime + self.seconds)


def tick(line: Mapping[str, Any]) -> Event:
    """The event of a line of stats.jsonl."""
    return Event("tick", line["step"], line["images"], line)


def score(line: Mapping[str, Any]) -> Event:
    """The event of a line of scores.jsonl."""
    return Event("score", line["step"], line["images"], line)


def scalars_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The measured numbers of a line of stats.jsonl, each as `training/NAME`."""
    return {f"training/{name}": value for name, value in line.items() if name not in _NO_SCALARS}


def events_of(run: Any) -> list[Event]:
    """The events that the files of a run hold, in the order in which they happened. Scores made by hand are left out.

    The name of a grid is its number of images; its step is computed from the lines, see `_step_at`.
    """
    events = [tick(line) for line in run.lines("stats.jsonl")]
    events += [score(line) for line in run.lines("scores.jsonl") if line.get("training")]
    known = sorted({(0, 0), *((event.images, event.step) for event in events)})
    for path in (run.path / "samples").glob("*.png"):
        if path.stem.isdecimal():
            images = int(path.stem)
            events.append(Event("samples", _step_at(images, known), images, {"path": path}))
    return sorted(events, key=lambda event: (event.images, _ORDER.index(event.kind)))


def _step_at(images: int, known: list[tuple[int, int]]) -> int:
    """The step after which this many images had been seen, from the known pairs (images, step) in their order.

    It is exact at a known number of images, and as long as only the last step in between had a smaller batch.
    """
    full = max((-(-(b[0] - a[0]) // max(1, b[1] - a[1])) for a, b in pairwise(known)), default=1)
    seen, step = [pair for pair in known if pair[0] <= images][-1]
    return step + -(-(images - seen) // max(1, full))


def recipe_fields(run: Any) -> dict[str, Any]:
    """The fields of the recipe without nesting: the options of a part are `generator_optimizer.lr` and so on."""
    fields: dict[str, Any] = {}
    for name, value in run.recipe.to_dict().items():
        if isinstance(value, Mapping):
            fields[name] = value["name"]
            fields |= {f"{name}.{key}": option for key, option in value["options"].items()}
        elif isinstance(value, list):
            fields[name] = ", ".join(str(ganzoo.Choice.parse(part)) for part in value)
        else:
            fields[name] = "shared" if value is None else value
    return fields


def texts_of(run: Any) -> dict[str, str]:
    """The recipe and the environment as JSON text, by the names of their files."""
    documents = {"recipe": run.recipe.to_dict(), "environment": run.environment}
    return {name: json.dumps(document, indent=2) for name, document in documents.items()}


def key_of(run: Any) -> str:
    """Eight characters that tell this run from others. They stay the same if its directory is moved."""
    return hashlib.sha256((run.path / "environment.json").read_bytes()).hexdigest()[:8]


def name_of(run: Any, name: str) -> str:
    """The name that the user has chosen, or that of the run's directory."""
    return str(name or run.path.resolve().name)


def not_installed(library: str) -> ganzoo.GanzooError:
    """The error that a tracker raises where its library is missing."""
    return ganzoo.GanzooError(f"{library} is not installed: pip install 'torch-ganzoo[{library}]'")
