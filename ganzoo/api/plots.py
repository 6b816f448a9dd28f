"""Plots of losses and scores: of the lines of one run, and of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ganzoo.api.progress import log
from ganzoo.api.trained_run import TrainedRun
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.reports.curves import RunLines, curves_of, find_runs, quantities, read_runs, require_names, score_names
from ganzoo.reports.figures import Look, Plot, draw

__all__ = ["Plot", "plot", "plot_scores", "plot_stats"]


def plot(
    *runs: str | Path | TrainedRun,
    score: str | Sequence[str] = (),
    stat: str | Sequence[str] = (),
    axis: Literal["images", "epochs", "steps"] = "images",
    smooth: int = 1,
    log_scale: bool = False,
    band: Literal["range", "std"] = "range",
    theme: Literal["light", "dark"] = "light",
    title: str = "",
) -> Plot:
    """The losses and scores of runs, benchmarks, folders of runs or patterns such as `runs/*`, as a figure.

    Runs that differ only in their seed are one curve, the mean, with a band from the lowest to the highest run, or of
    one standard deviation. `score` and `stat` (a key of stats.jsonl) choose what is drawn; by default all losses and
    all scores. `smooth` is the number of points of a moving mean of the statistics.
    `Plot.save` writes a .png, .svg or .pdf. Raises UsageError for a name that no run has.
    """
    if not runs:
        raise UsageError("Name at least one run to plot.")
    if smooth < 1:
        raise UsageError(f"A moving mean is over 1 point or more, not {smooth}.")
    lines = read_runs(find_runs(run.path if isinstance(run, TrainedRun) else run for run in runs))
    scores, stats = ([names] if isinstance(names, str) else list(names) for names in (score, stat))
    require_names(scores, score_names(lines), "score")
    require_names(stats, quantities(lines), "statistic")
    if not scores and not stats:
        stats = [name for name in quantities(lines) if name.endswith("_loss")]
        scores = score_names(lines)
    if not scores and not stats:
        raise GanzooError("There is nothing to plot yet: the runs have no statistics and no scores, train them longer.")
    return _figure(lines, stats, scores, axis, smooth, band, Look(theme, log_scale, title))


def plot_stats(lines: Sequence[Mapping[str, Any]]) -> Plot:
    """One panel with the losses, and one for each other mean, over the images seen."""
    runs = [RunLines("", None, stats=lines)]
    return _figure(runs, quantities(runs), [], together=True)


def plot_scores(lines: Sequence[Mapping[str, Any]]) -> Plot:
    """A panel for each score; in it a line for each way of measuring, and a dot for each score made afterwards."""
    runs = [RunLines("", None, scores=lines)]
    return _figure(runs, [], score_names(runs)) if lines else draw([("no scores yet", [])])


def _figure(
    runs: Sequence[RunLines],
    stats: Sequence[str],
    scores: Sequence[str],
    axis: str = "images",
    smooth: int = 1,
    band: Literal["range", "std"] = "range",
    look: Look | None = None,
    together: bool = False,
) -> Plot:
    """The panels of these statistics and scores. The losses of a single group of runs stand in one panel."""
    curves = curves_of(runs, stats, scores, axis, smooth, band)
    losses = [curve for curve in curves if curve.quantity in stats and curve.quantity.endswith("_loss")]
    panels = []
    if losses and len({curve.group for curve in curves}) == 1:
        panels.append(("loss", losses))
    names = [name for name in (*stats, *scores) if not panels or not name.endswith("_loss") or name in scores]
    for name in names:
        of_name = [curve for curve in curves if curve.quantity == name]
        better = next((curve.better for curve in of_name if curve.better), "")
        words = f"{name} ({better} is better)" if better else name.replace("_", " ")
        if of_name:
            panels.append((words, of_name))
    return draw(panels, axis, look, log)
