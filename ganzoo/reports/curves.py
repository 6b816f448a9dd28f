"""Curves of losses and scores over several runs. Runs that differ only in their seed are one curve with a band."""

from __future__ import annotations

import bisect
import glob
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.recipe import Recipe
from ganzoo.storage.run import Run

#: keys of a line of stats.jsonl that are not means of the training
_OTHER = ("step", "images", "epoch", "seconds", "images_per_second", "partial")
#: what the x axis can show, and the key of a line that holds it; the seconds of lines add up
AXES = {"images": "images", "epochs": "epoch", "steps": "step"}
Band = Literal["range", "std"]


@dataclass(frozen=True)
class RunLines:
    """The lines of a run: its statistics, and its scores with their cards."""

    name: str
    recipe: Recipe | None
    stats: Sequence[Mapping[str, Any]] = ()
    scores: Sequence[Mapping[str, Any]] = ()


@dataclass
class Curve:
    """One quantity of one group of runs: the mean over the runs at each place, and the band around it."""

    #: key of the statistics, or name of the score
    quantity: str
    #: what the group is, in words; empty where there is only one
    label: str
    #: number of the group, which chooses the colour
    group: int
    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    #: number of runs in the group
    runs: int = 1
    #: the values before they were smoothed; empty where they were not
    raw: list[float] = field(default_factory=list)
    #: (x, value) of scores that were made after the training
    afterwards: list[tuple[float, float]] = field(default_factory=list)
    #: for scores: lower or higher
    better: str = ""


# --- runs -------------------------------------------------------------------------------------------------------------


def find_runs(places: Iterable[str | Path]) -> list[Path]:
    """The directories of the runs at these places: a run, a benchmark, a folder of runs, or a pattern such as `runs/*`.

    Raises UsageError for a place without a run, with the place.
    """
    found: list[Path] = []
    for place in places:
        path = Path(place)
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(str(path.expanduser()))))
        runs = [run for match in matches for run in _runs_in(match)]
        if not runs:
            raise UsageError(f"{place}: there is no run: name a run, a folder of runs, a benchmark, or a pattern.")
        found += runs
    return list(dict.fromkeys(found))


def _runs_in(path: Path) -> list[Path]:
    if (path / "recipe.json").is_file():
        return [path]
    folder = path / "runs" if (path / "runs").is_dir() else path
    return sorted(file.parent for file in folder.glob("*/recipe.json"))


def read_runs(paths: Iterable[Path]) -> list[RunLines]:
    """The lines of each run. Raises UsageError where a path is no run, GanzooError where one is damaged."""
    runs = [Run.open(path) for path in paths]
    return [RunLines(run.path.name, run.recipe, run.lines("stats.jsonl"), run.lines("scores.jsonl")) for run in runs]


def grouped(runs: Sequence[RunLines]) -> list[tuple[str, list[RunLines]]]:
    """The runs in groups that differ only in their seed, each with a name, which says how it differs."""
    groups: dict[str, list[RunLines]] = {}
    for run in runs:
        groups.setdefault(str(_without_seed(run)), []).append(run)
    members = list(groups.values())
    return list(zip(_labels(members), members, strict=True))


def _without_seed(run: RunLines) -> dict[str, Any]:
    recipe = {} if run.recipe is None else run.recipe.to_dict()
    return {name: value for name, value in recipe.items() if name != "seed"}


def _labels(groups: Sequence[list[RunLines]]) -> list[str]:
    """The shortest name of each group that no other has: architecture, then dataset, then the fields that differ."""
    if len(groups) == 1:
        return [""]
    recipes = [_without_seed(members[0]) for members in groups]
    names = [short_name(_choice(recipe, "architecture")) for recipe in recipes]
    datasets = [_choice(recipe, "dataset") for recipe in recipes]
    if len(set(map(str, datasets))) > 1:
        short = list(map(short_name, datasets))
        ambiguous = len(set(short)) < len(set(map(str, datasets)))
        shown = list(map(str, datasets)) if ambiguous else short
        names = [f"{name}, {dataset}" for name, dataset in zip(names, shown, strict=True)]
    if len(set(names)) < len(names):
        names = [_with_differences(name, place, names, recipes) for place, name in enumerate(names)]
    if len(set(names)) < len(names):
        names = [members[0].name for members in groups]
    return names


def _choice(recipe: Mapping[str, Any], field: str) -> Choice | None:
    return Choice.parse(recipe[field]) if recipe.get(field) else None


def _with_differences(name: str, place: int, names: Sequence[str], recipes: Sequence[Mapping[str, Any]]) -> str:
    """The name, and the fields in which this recipe differs from others with the same name."""
    own = recipes[place]
    alike = [recipe for other, recipe in zip(names, recipes, strict=True) if other == name]
    fields = [key for key in own if len({str(recipe.get(key)) for recipe in alike}) > 1]
    words = [f"{key.replace('_', ' ')} {_value(own[key])}" for key in fields]
    return ", ".join([name, *words[:3]])


def _value(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)


# --- curves -----------------------------------------------------------------------------------------------------------


def quantities(runs: Sequence[RunLines]) -> list[str]:
    """The names of all statistics of the runs: losses first, then other means such as accuracy."""
    names = list(dict.fromkeys(key for run in runs for line in run.stats for key in line if key not in _OTHER))
    return sorted(names, key=lambda name: not name.endswith("_loss"))


def score_names(runs: Sequence[RunLines]) -> list[str]:
    """The names of all scores of the runs."""
    return list(dict.fromkeys(line["score"] for run in runs for line in run.scores))


def require_names(asked: Sequence[str], there: Sequence[str], what: str) -> None:
    """Raises UsageError for a name that none of the runs has."""
    for name in asked:
        if name not in there:
            listed = ", ".join(there) or "none"
            raise UsageError(
                f"No run here has the {what} {name!r}.{did_you_mean(name, list(there))} There are: {listed}."
            )


def curves_of(
    runs: Sequence[RunLines],
    stats: Sequence[str] = (),
    scores: Sequence[str] = (),
    axis: str = "images",
    smooth: int = 1,
    band: Band = "range",
) -> list[Curve]:
    """The curves of these statistics and scores, one for each group of runs, and for scores for each way of measuring.

    `smooth` is the number of points of the moving mean of statistics, 1 for none. The band is from the lowest to the
    highest run, or the standard deviation (n - 1) around the mean. At each place only the runs that reached it count.
    Raises GanzooError where nothing can be drawn.
    """
    if axis not in AXES:
        raise UsageError(f"The x axis cannot be {axis!r}: it is {', '.join(AXES)}.")
    key, found = AXES[axis], []
    for group, (label, members) in enumerate(grouped(runs)):
        for name in stats:
            series = [
                [(line[key], line[name]) for line in run.stats if name in line and key in line] for run in members
            ]
            if curve := _curve(name, label, group, series, smooth, band):
                found.append(curve)
        for name in scores:
            found += _score_curves(name, label, group, members, key, band)
    if not found and (stats or scores):
        raise GanzooError("There is nothing to plot yet: train the runs longer, or score them.")
    return found


def _score_curves(name: str, label: str, group: int, members: Sequence[RunLines], key: str, band: Band) -> list[Curve]:
    """A curve for each way in which a score was measured: only values of one card can be compared."""
    lines = [[line for line in run.scores if line["score"] == name and key in line] for run in members]
    digests = list(dict.fromkeys(line["card"]["digest"] for of_run in lines for line in of_run))
    curves = []
    for digest in digests:
        alike = [[line for line in of_run if line["card"]["digest"] == digest] for of_run in lines]
        cards = [line for of_run in alike for line in of_run]
        measured = f"{cards[0]['card']['measure']['fakes']:,} fakes" if len(digests) > 1 else ""
        words = ", ".join(filter(None, (label, measured)))
        series = [[(line[key], line["value"]) for line in of_run if line.get("training")] for of_run in alike]
        after = [(line[key], line["value"]) for line in cards if not line.get("training")]
        curve = _curve(name, words, group, series, 1, band) or Curve(name, words, group, [], [], [], [], len(members))
        curve.afterwards, curve.better = after, str(cards[0].get("better", ""))
        curves.append(curve)
    return curves


def _curve(
    name: str, label: str, group: int, series: Sequence[Sequence[tuple[float, float]]], smooth: int, band: Band
) -> Curve | None:
    """The mean of several runs (x, value). None where none of them has a point."""
    series = [points for points in series if points]
    if not series:
        return None
    smoothed = [
        list(zip((x for x, _ in points), moving_mean([y for _, y in points], smooth), strict=True)) for points in series
    ]
    places = sorted({x for points in series for x, _ in points})
    rows = [[value for points in smoothed if (value := _at(points, x)) is not None] for x in places]
    raw = [y for _, y in series[0]] if smooth > 1 and len(series) == 1 else []
    mean = [statistics.fmean(row) for row in rows]
    low, high = zip(*(_band(row, band) for row in rows), strict=True)
    return Curve(name, label, group, list(places), mean, list(low), list(high), len(series), raw)


def _at(points: Sequence[tuple[float, float]], x: float) -> float | None:
    """The value at x, between two points on the line between them; None outside of the points."""
    if not points[0][0] <= x <= points[-1][0]:
        return None
    after = bisect.bisect_left(points, x, key=lambda point: point[0])
    (right, upper) = points[after]
    if right == x:
        return upper
    left, lower = points[after - 1]
    return lower + (upper - lower) * (x - left) / (right - left)


def _band(row: Sequence[float], band: Band) -> tuple[float, float]:
    if band == "range":
        return min(row), max(row)
    mean, deviation = statistics.fmean(row), statistics.stdev(row) if len(row) > 1 else 0.0
    return mean - deviation, mean + deviation


def moving_mean(values: Sequence[float], points: int) -> list[float]:
    """The centred moving mean over `points` values; near both ends over fewer, as many on each side."""
    half = (points - 1) // 2
    means = []
    for place in range(len(values)):
        reach = min(half, place, len(values) - 1 - place)
        means.append(statistics.fmean(values[place - reach : place + reach + 1]))
    return means
