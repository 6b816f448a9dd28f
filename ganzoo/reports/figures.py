"""Figures of curves, made without pyplot: no global state, no window, no backend to choose."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogFormatter

from ganzoo.contract.errors import UsageError
from ganzoo.contract.paths import is_directory
from ganzoo.reports.curves import Curve
from ganzoo.storage.files import write_atomically

#: seven colours of Okabe and Ito, which people with any colour vision can tell apart, in an order for few curves
_COLOURS = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5c6670"),
    "dark": ("#56b4e9", "#e69f00", "#2fc79a", "#e29ac2", "#8fa8ff", "#f0e442", "#b8c0c8"),
}
_STYLES = ("-", "--", ":", "-.")
_INK = {"light": ("#ffffff", "#1c1c20"), "dark": ("#18181c", "#e1e1e6")}
SUFFIXES = (".png", ".svg", ".pdf")
_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.hashsalt": "ganzoo",  # so that the same curves give the same bytes
    "pdf.fonttype": 42,  # letters that a journal can search and edit
}
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Look:
    """How a figure looks. `log` asks for a logarithmic y axis, `title` stands above all panels."""

    theme: str = "light"
    log: bool = False
    title: str = ""
    #: inches of a panel
    panel_width: float = 4.2
    panel_height: float = 2.9

    def __post_init__(self) -> None:
        if self.theme not in _COLOURS:
            raise UsageError(f"There is no theme {self.theme!r}: it is {' or '.join(_COLOURS)}.")


class Plot(Figure):
    """A matplotlib Figure, which a notebook shows whether pyplot was imported or not."""

    def __init__(self, panels: int, look: Look | None = None) -> None:
        look = look or Look()
        columns = min(panels, 3)
        rows = -(-panels // columns)
        size = (look.panel_width * columns, look.panel_height * rows + 0.3)
        super().__init__(figsize=size, layout="constrained", facecolor=_INK[look.theme][0])
        FigureCanvasAgg(self)

    def save(self, path: str | Path, dpi: int = 200) -> Path:
        """Write the figure as .png, .svg or .pdf and return the path. The same curves give the same bytes.

        Raises UsageError for another suffix, or a directory that does not exist.
        """
        out = Path(path)
        check_out(out)
        data = io.BytesIO()
        with _settings():
            self.savefig(data, format=out.suffix[1:], dpi=dpi, metadata=_METADATA[out.suffix])
        write_atomically(out, data.getvalue())
        return out

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=100)
        return data.getvalue()


class _PlainLog(LogFormatter):
    """Labels of a logarithmic axis in plain numbers: 0.6 and not 6e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of a place; empty where it has none."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def check_out(out: Path) -> None:
    """Raises UsageError for a file that no figure can be written to."""
    if out.suffix not in SUFFIXES:
        raise UsageError(f"-o {out}: the file must end in .png, .svg or .pdf.")
    if is_directory(out):
        raise UsageError(f"-o {out}: this is a directory; name a file.")
    if not is_directory(out.absolute().parent):
        raise UsageError(f"-o {out}: there is no directory {out.parent}.")


@contextmanager
def _settings() -> Iterator[None]:
    with matplotlib.rc_context(_SETTINGS):
        yield


def draw(
    panels: Sequence[tuple[str, Sequence[Curve]]],
    axis: str = "images",
    look: Look | None = None,
    note: Callable[[str], None] = print,
) -> Plot:
    """One panel for each title with its curves, over the images, epochs or steps. An empty panel stays empty.

    A panel with values of 0 or below stays linear although the look asks for a logarithmic axis; `note` says so.
    """
    look = look or Look()
    panels = list(panels) or [("", [])]
    with _settings():
        plot = Plot(len(panels), look)
        columns = min(len(panels), 3)
        axes = plot.subplots(-(-len(panels) // columns), columns, squeeze=False).flat
        for axes_of_panel, (title, curves) in zip(axes, panels, strict=False):
            _draw_panel(axes_of_panel, title, curves, look, note)
            _finish(axes_of_panel, title, axis, look)
        for empty in list(axes)[len(panels) :]:
            empty.set_axis_off()
        _legend(plot, look)
        if look.title:
            plot.suptitle(look.title, fontsize=11, color=_INK[look.theme][1])
    return plot


def _draw_panel(axes: Any, title: str, curves: Sequence[Curve], look: Look, note: Callable[[str], None]) -> None:
    colours = _COLOURS[look.theme]
    several = len({curve.quantity for curve in curves}) > 1
    for place, curve in enumerate(curves):
        number = place if several or len({other.group for other in curves}) < len(curves) else curve.group
        colour, style = colours[number % len(colours)], _STYLES[number // len(colours) % len(_STYLES)]
        label = _label(curve, several)
        if curve.raw:
            axes.plot(curve.x, curve.raw, color=colour, linewidth=0.8, alpha=0.3)
        if curve.runs > 1 and curve.x:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        if curve.x:
            marker = "o" if len(curve.x) < 3 or (curve.better and len(curve.x) < 40) else ""
            axes.plot(
                curve.x, curve.mean, style, color=colour, linewidth=1.5, marker=marker, markersize=3.5, label=label
            )
        if curve.afterwards:
            axes.scatter(
                *zip(*curve.afterwards, strict=True), color=colour, marker="D", s=24, label="" if curve.x else label
            )
    if look.log and _positive(curves):
        axes.set_yscale("log")
        for kind in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            kind(_PlainLog(minor_thresholds=(1.5, 0.6)))
    elif look.log and curves:
        note(f"The axis of {title!r} stays linear: it has values of 0 or below.")


def _positive(curves: Sequence[Curve]) -> bool:
    values = [value for curve in curves for value in (*curve.low, *curve.raw, *(y for _, y in curve.afterwards))]
    return bool(values) and all(math.isfinite(value) and value > 0 for value in values)


def _label(curve: Curve, several: bool) -> str:
    words = [curve.quantity.removesuffix("_loss").replace("_", " ")] if several else []
    words += [curve.label] if curve.label else []
    words += [f"{curve.runs} seeds"] if curve.runs > 1 else []
    return ", ".join(words)


def _finish(axes: Any, title: str, axis: str, look: Look) -> None:
    paper, ink = _INK[look.theme]
    axes.set_title(title, loc="left", color=ink)
    axes.set_xlabel("images seen" if axis == "images" else axis, color=ink)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_facecolor(paper)
    axes.tick_params(which="both", colors=ink)
    axes.grid(color="#808080", alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(ink)


def _legend(plot: Plot, look: Look) -> None:
    """One legend in the panel where all panels name the same curves or one has names; else one in each panel."""
    ink = _INK[look.theme][1]
    named = [(axes, axes.get_legend_handles_labels()) for axes in plot.axes]
    named = [(axes, handles) for axes, handles in named if any(handles[1])]
    if len(named) > 1 and len({tuple(labels) for _, (_, labels) in named}) == 1:
        handles, labels = named[0][1]
        plot.legend(
            handles, labels, loc="outside lower center", ncols=min(3, len(labels)), frameon=False, labelcolor=ink
        )
        return
    for axes, (handles, labels) in named:
        axes.legend(handles, labels, frameon=False, labelcolor=ink)
