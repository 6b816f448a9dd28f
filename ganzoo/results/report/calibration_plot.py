"""The plot of a calibration: a panel for each score, with a line for each corruption."""

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
#: panels in a row, width of a panel in inches, height of a line in inches
_COLUMNS, _WIDTH, _LINE = 3, 3.4, 0.27
#: the axis is logarithmic if the largest value is more than this many times the smallest
_LOG_RATIO = 30


def png(rows: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """The plot as the bytes of a PNG file. `rows` come from `calibrate`; the same rows give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = list(dict.fromkeys(row["score"] for row in rows))
    corruptions = list(dict.fromkeys((row["damage"], row["strength"]) for row in rows))
    wide = min(_COLUMNS, len(scores))
    tall = -(-len(scores) // wide)
    size = (2.4 + _WIDTH * max(wide, 1.4), 0.5 + tall * (0.9 + _LINE * len(corruptions)))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    panels = figure.subplots(tall, wide, squeeze=False).ravel()
    for place, axis in enumerate(panels):
        if place >= len(scores):
            axis.set_axis_off()
            continue
        _draw(axis, [row for row in rows if row["score"] == scores[place]], corruptions, named=place % wide == 0)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
    return data.getvalue()


def _draw(axis: Any, rows: Sequence[Mapping[str, Any]], corruptions: Sequence[tuple[str, Any]], named: bool) -> None:
    """Draw, for each corruption, a line from the score of the uncorrupted images to that of the corrupted ones."""
    values = [row["value"] for row in rows]
    start = next((row["value"] for row in rows if row["damage"] == "none"), min(values))
    if min(values) > 0 and max(values) > _LOG_RATIO * min(values):
        axis.set_xscale("log")
    for row in rows:
        place, colour = corruptions.index((row["damage"], row["strength"])), _COLOURS[row["damage"]]
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
    axis.set_yticks(range(len(corruptions)), [corruption_label(*each) for each in corruptions] if named else [])
    axis.set_ylim(len(corruptions) - 0.5, -0.7)
    axis.tick_params(axis="both", labelsize=8, length=2)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.22)


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 or not value else f"{value:.1g}"
