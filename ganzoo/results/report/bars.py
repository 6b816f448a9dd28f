"""The bar chart of a benchmark: a panel for each dataset and score, with error bars over the training seeds."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ganzoo.results.report.tables import Section, label, number, sections_of

_BAR, _BEST, _BASELINE = "#4c78a8", "#f58518", "#54a24b"


def png(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The chart as the bytes of a PNG file; the same rows give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = sections_of(rows)
    datasets = list(dict.fromkeys(panel.rows[0]["dataset"] for panel in panels))
    lines = [[panel for panel in panels if panel.rows[0]["dataset"] == dataset] for dataset in datasets]
    wide, tall = max(map(len, lines), default=1), [max(len(p.rows) for p in line) for line in lines]
    heights = [0.8 + 0.4 * count for count in tall]
    figure = Figure(figsize=(1.6 + 4.2 * wide, 0.4 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(1, len(lines)), wide, squeeze=False, height_ratios=heights or None)
    for row_of_axes, line in zip(axes, lines or [[]], strict=True):
        for place, axis in enumerate(row_of_axes):
            _draw(axis, line[place]) if place < len(line) else axis.set_axis_off()
    marks: dict[str, Any] = {}
    for axis in axes.flat:
        marks |= {label: mark for mark, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if marks:
        figure.legend(marks.values(), marks, fontsize=8, loc="outside lower center", ncols=len(marks), frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120, metadata={"Software": None})
    return data.getvalue()


def _draw(axis: Any, panel: Section) -> None:
    """Draw bars of `last` with the interval over seeds, a mark at `best`, and a line at the score of real images."""
    rows = [row for row in panel.rows if row["mean"] is not None]
    names = [f"{label(row, panel.rows)} ({row['seeds']})" for row in panel.rows]
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_title(panel.title, fontsize=9, loc="left")
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    if rows:
        means = [row["mean"] for row in rows]
        spans = [row["interval"] or [row["mean"], row["mean"]] for row in rows]
        errors = [[m - low for m, (low, _) in zip(means, spans, strict=True)],
                  [high - m for m, (_, high) in zip(means, spans, strict=True)]]  # fmt: skip
        axis.barh(range(len(rows)), means, 0.6, color=_BAR, xerr=errors, ecolor="black", capsize=3, label="last")
        axis.plot([row["best"]["mean"] for row in rows], range(len(rows)), "D", color=_BEST, ms=5, label="best")
        for place, (mean, (_, high)) in enumerate(zip(means, spans, strict=True)):
            axis.annotate(number(mean), (max(mean, high), place), (5, 0), textcoords="offset points", va="center",
                          fontsize=8)  # fmt: skip
        axis.margins(x=0.18)
        floor = rows[0]["floor"]
        if floor is not None:
            axis.axvline(floor, color=_BASELINE, linestyle="--", linewidth=1, label="floor")
