"""Figures of statistics and scores, made without pyplot: no global state, no window, no backend to choose."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

_COLOURS = ("#3a74b8", "#d9822b", "#2f7d4f", "#8e5aa8", "#c4432b", "#5c6670")
#: keys of a line of stats.jsonl that are not means of the training
_OTHER = ("step", "images", "epoch", "seconds", "images_per_second", "partial")


class Plot(Figure):
    """A matplotlib Figure, which a notebook shows whether pyplot was imported or not."""

    def __init__(self, panels: int) -> None:
        super().__init__(figsize=(4.6 * panels, 3.2), layout="constrained")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=100)
        return data.getvalue()


def plot_stats(lines: Sequence[Mapping[str, Any]]) -> Plot:
    """One panel with the losses, and one for each other mean, over the images seen."""
    names = [name for name in dict.fromkeys(key for line in lines for key in line) if name not in _OTHER]
    losses = [name for name in names if name.endswith("_loss")]
    panels = [losses, *([name] for name in names if name not in losses)] if names else [[]]
    plot = Plot(len(panels))
    for axis, (place, panel) in zip(plot.subplots(1, len(panels), squeeze=False).flat, enumerate(panels), strict=True):
        for index, name in enumerate(panel):
            points = [(line["images"], line[name]) for line in lines if name in line]
            colour = _COLOURS[(index if not place else place + 1) % len(_COLOURS)]
            label = name.removesuffix("_loss").replace("_", " ")
            axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, label=label, marker=_marker(points))
        _finish(axis, "loss" if panel == losses else panel[0].replace("_", " "), legend=len(panel) > 1)
    return plot


def plot_scores(lines: Sequence[Mapping[str, Any]]) -> Plot:
    """A panel for each score; in it a line for each way of measuring, and a dot for each score made afterwards."""
    names = list(dict.fromkeys(line["score"] for line in lines))
    plot = Plot(max(1, len(names)))
    axes = plot.subplots(1, max(1, len(names)), squeeze=False).flat
    for axis, name in zip(axes, names or [""], strict=True):
        group = [line for line in lines if line["score"] == name]
        digests = list(dict.fromkeys(line["card"]["digest"] for line in group))
        for index, digest in enumerate(digests):
            colour = _COLOURS[index % len(_COLOURS)]
            alike = [line for line in group if line["card"]["digest"] == digest]
            label = f"{alike[0]['card']['measure']['fakes']:,} fakes" if len(digests) > 1 else ""
            trained = [(line["images"], line["value"]) for line in alike if line.get("training")]
            # images that no run has drawn have no number of images seen
            after = [(line["images"] or 0, line["value"]) for line in alike if not line.get("training")]
            if trained:
                axis.plot(
                    *zip(*trained, strict=True), color=colour, linewidth=1.4, marker="o", markersize=4, label=label
                )
            if after:
                axis.scatter(*zip(*after, strict=True), color=colour, marker="D", s=28, label="" if trained else label)
        words = f"{name} ({group[0]['better']} is better)" if group else "no scores yet"
        _finish(axis, words, legend=len(digests) > 1)
    return plot


def _marker(points: Sequence[Any]) -> str:
    """Dots where there are too few points for a line to be seen."""
    return "o" if len(points) < 3 else ""


def _finish(axis: Any, title: str, legend: bool) -> None:
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel("images seen", fontsize=9)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.tick_params(labelsize=8)
    axis.grid(color="#808080", alpha=0.2, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(fontsize=8, frameon=False)
