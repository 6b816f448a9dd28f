"""Scale: the picture of a calibration, a line for each condition and a panel for each score."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ganzoo.evaluation.corruptions import corruption_label

_COLOURS = {
    "none": "#2a7f3f",
    "noise": "#4c78a8",
    "blur": "#b279a2",
    "missing classes": "#f58518",
    "memorised": "#e45756",
    "other dataset": "#72655a",
    "uniform noise": "#72655a",
}
#: panels beside each other, and the inches of a panel and of a line
_COLUMNS, _WIDTH, _LINE = 3, 3.4, 0.27
#: where the largest value is this many times the smallest, the axis is logarithmic
_LONG = 30


def png(rows: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """The scale as a PNG file; `rows` are what `calibrate` gives. The same rows give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = list(dict.fromkeys(row["score"] for row in rows))
    conditions = list(dict.fromkeys((row["damage"], row["strength"]) for row in rows))
    wide = min(_COLUMNS, len(scores))
    tall = -(-len(scores) // wide)
    size = (2.4 + _WIDTH * max(wide, 1.4), 0.5 + tall * (0.9 + _LINE * len(conditions)))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    panels = figure.subplots(tall, wide, squeeze=False).ravel()
    for place, axis in enumerate(panels):
        if place >= len(scores):
            axis.set_axis_off()
            continue
        _draw(axis, [row for row in rows if row["score"] == scores[place]], conditions, named=place % wide == 0)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
    return data.getvalue()


def _draw(axis: Any, rows: Sequence[Mapping[str, Any]], conditions: Sequence[tuple[str, Any]], named: bool) -> None:
    """A line from the undamaged images to what the damaged ones score, with the value at its end."""
    values = [row["value"] for row in rows]
    start = next((row["value"] for row in rows if row["damage"] == "none"), min(values))
    if min(values) > 0 and max(values) > _LONG * min(values):
        axis.set_xscale("log")
    for row in rows:
        place, colour = conditions.index((row["damage"], row["strength"])), _COLOURS[row["damage"]]
        axis.plot([start, row["value"]], [place, place], color=colour, linewidth=2, alpha=0.45, solid_capstyle="butt")
        axis.plot([row["value"]], [place], "o", color=colour, markersize=5)
        left = row["value"] < start
        axis.annotate(
            _short(row["value"]),
            (row["value"], place),
            (-7 if left else 7, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=7.5,
        )
    axis.axvline(start, color=_COLOURS["none"], linestyle="--", linewidth=1)
    axis.set_title(f"{rows[0]['score']} ({rows[0]['better']} is better)", fontsize=9, loc="left")
    axis.set_yticks(range(len(conditions)), [corruption_label(*condition) for condition in conditions] if named else [])
    axis.set_ylim(len(conditions) - 0.5, -0.7)
    axis.tick_params(axis="both", labelsize=8, length=2)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.22)


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 or not value else f"{value:.1g}"
