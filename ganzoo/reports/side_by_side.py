"""Runs that exist side by side: a row for each score that was measured in one way, a value for each run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.experiments.table import interval
from ganzoo.reports.compare import difference
from ganzoo.reports.model import Column, Measurement, Report, RunRecord
from ganzoo.reports.text import plain_data, short_number


def runs_side_by_side(report: Report, paths: Sequence[Path]) -> list[RunRecord]:
    """The run of each path, in this order.

    Raises UsageError if a path is not one run or is named twice, GanzooError if a run cannot be read.
    """
    found: list[RunRecord] = []
    for path in paths:
        below = [run for run in report.runs if _is_below(run.path, path)]
        if not below:
            reasons = [one.reason for one in report.failures if _is_below(one.path, path)]
            raise GanzooError(reasons[0] if reasons else f"{path} holds no run that can be read.")
        if len(below) > 1:
            raise UsageError(
                f"{path} holds {len(below)} runs; name single runs here, or make a page of all of them by "
                f"`ganzoo report`."
            )
        if below[0] in found:
            raise UsageError(f"{path} is named twice; a comparison needs different runs.")
        found.append(below[0])
    return found


def _is_below(path: str, folder: Path) -> bool:
    real, top = os.path.realpath(path), os.path.realpath(folder)
    return real == top or real.startswith(top + os.sep)


def rows_of(runs: Sequence[RunRecord], columns: Sequence[Column]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows, and the facts of each run: `run`, `architecture`, `dataset`, `seed`, `state`, `epoch` and `images`."""
    rows = []
    for column in columns:
        measured = [_of_column(run, column) for run in runs]
        if not any(measured):
            continue
        first = measured[0]
        rows.append(
            {
                "score": column.score,
                "label": column.label,
                "dataset": column.dataset,
                "digest": column.digest,
                "better": column.better,
                "floor": column.floor,
                "values": [_value(one) for one in measured],
                "differences": [
                    difference(first.fakes, other.fakes, column.better) if first and other else None
                    for other in measured[1:]
                ],
            }
        )
    facts = [
        {
            "run": run.path,
            "architecture": run.architecture,
            "dataset": run.dataset,
            "seed": run.seed,
            "state": run.state,
            "epoch": run.epoch,
            "images": run.images,
        }
        for run in runs
    ]
    return plain_data(rows), plain_data(facts)


def _of_column(run: RunRecord, column: Column) -> Measurement | None:
    if run.dataset != column.dataset:
        return None
    alike = [one for one in run.measurements if (one.score, one.digest) == (column.score, column.digest)]
    return alike[0] if alike else None


def _value(one: Measurement | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "last": one.last,
        "best": one.best,
        "images": one.last_images,
        "fakes": one.fakes,
        "interval": interval(one.fakes),
    }


def texts(rows: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The comparison as the head and the lines of a table."""
    names = [Path(run["run"]).name or run["run"] for run in runs]
    several = len({run["dataset"] for run in runs}) > 1
    lines = []
    for row in rows:
        arrow = "lower" if row["better"] == "lower" else "higher"
        label = f"{row['label']} ({arrow})" + (f" on {row['dataset']}" if several else "")
        lines.append([label, *map(_shown, row["values"]), *map(_difference, row["differences"])])
    head = ["score", *names, *(f"{name} - {names[0]}" for name in names[1:])]
    return head, lines


def _shown(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    text = short_number(value["last"])
    if value["interval"]:
        text += f" [{short_number(value['interval'][0])}, {short_number(value['interval'][1])}]"
    return text if value["best"] == value["last"] else f"{text}, best {short_number(value['best'])}"


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    text = f"{found['delta']:+.3g}"
    if found["interval"]:
        text += f" [{found['interval'][0]:+.3g}, {found['interval'][1]:+.3g}]"
    return text + {"first": " worse", "second": " better", "": ""}[found["winner"]]
