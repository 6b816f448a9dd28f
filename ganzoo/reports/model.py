"""What a report knows: runs, groups of runs that differ in their seed only, and results; plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Measurement:
    """One score of one run, measured in one way: all its points have cards with the same digest."""

    score: str
    better: str
    digest: str
    card: Mapping[str, Any]
    #: images, epoch, value and whether it was measured in the training; sorted by images
    points: list[dict[str, Any]]
    #: the score of the newest scored generator
    last: float
    #: the score of the generator that was best by the recipe's `best_by`
    best: float
    last_images: int
    best_images: int
    #: scores of the newest generator for other choices of fakes; at least one value
    fakes: list[float] = field(default_factory=list)


@dataclass
class RunRecord:
    """One run directory, as far as it could be read."""

    id: str
    path: str
    #: the folder that names it to the reader: its own name
    name: str
    architecture: str
    dataset: str
    seed: int
    recipe: dict[str, Any]
    #: digest of everything of the recipe that changes what is trained, except the seed
    recipe_digest: str
    #: finished, unfinished, training, diverged
    state: str
    step: int = 0
    images: int = 0
    epoch: float = 0.0
    seconds: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    shape: list[int] = field(default_factory=list)
    #: name of a column of stats.jsonl -> its values
    stats: dict[str, list[float | None]] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    #: how the recipe differs from the architecture's own: name, own value, value of the run; None: not known
    changes: list[dict[str, str]] | None = None
    #: the command that trains it again
    command: str = ""
    #: the recipe as TOML, where the command reads it from a file
    toml: str = ""
    #: the name of its row in a study, and the values of the study's axes
    row: str = ""
    axes: dict[str, Any] = field(default_factory=dict)
    #: sentences about damage, divergence or what could not be drawn
    notes: list[str] = field(default_factory=list)
    #: the sample grids of the training: see `sprites.film`
    film: dict[str, Any] | None = None
    #: a digest of the latents of its sample grids; empty if it is not known
    latents: str = ""
    #: what was drawn for the report: interpolation, classes, neighbours, fresh samples
    drawings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Failure:
    """A directory that holds no readable run, or a trial of a benchmark that failed."""

    path: str
    reason: str
    architecture: str = ""
    dataset: str = ""
    seed: int | None = None
    recipe_digest: str = ""
    row: str = ""
    axes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Column:
    """A score measured in one way on one dataset: values of one column can be compared."""

    id: str
    dataset: str
    score: str
    better: str
    digest: str
    #: the name of the score; with the start of the digest where the dataset has another column of this score
    label: str
    card: Mapping[str, Any]
    floor: float | None = None
    floor_images: int | None = None
    #: scores of damaged real images
    scale: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Cell:
    """The scores of a group in one column."""

    column: str
    seeds: list[int]
    last: dict[str, Any]
    best: dict[str, Any]
    #: 95 % bootstrap interval of the mean of `last`
    interval: list[float] | None
    #: this group is better than every other one of the column by more than the spread
    wins: bool = False


@dataclass
class Group:
    """Runs of one recipe with several seeds."""

    id: str
    label: str
    architecture: str
    dataset: str
    #: ids of the runs, sorted by seed
    runs: list[str]
    seeds: list[int]
    failures: list[dict[str, Any]]
    images: int
    cells: list[Cell] = field(default_factory=list)
    #: the name of its row in a study, and the values of the study's axes, as texts
    row: str = ""
    axes: dict[str, str] = field(default_factory=dict)
    #: the label without what `row` and `axes` say
    name: str = ""


@dataclass
class Report:
    """Everything that a report shows."""

    runs: list[RunRecord]
    groups: list[Group]
    columns: list[Column]
    failures: list[Failure]
    #: differences between two groups in a column, see `compare.difference`
    differences: list[dict[str, Any]]
    sources: Sequence[str] = ()
