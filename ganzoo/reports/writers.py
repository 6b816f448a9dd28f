"""The leaderboard of a report as Markdown, CSV, JSON and LaTeX. Each works on the data of `page.page_data`."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ganzoo.reports.text import short_number
from ganzoo.results.report.tables import axis_cells, axis_columns, standing_words

FORMATS = ("html", "md", "csv", "json", "latex")

LEGEND = (
    "Each value is the mean ± standard deviation over the training seeds: of the generator at the end of the training, "
    "and after `best` of the one that was kept as the best. A column holds only values that were measured alike."
)


@dataclass
class BoardTable:
    """The leaderboard of one dataset as texts: a row for each group, a column for each measurement."""

    title: str
    columns: list[Mapping[str, Any]]
    head: list[str]
    rows: list[list[str]]
    #: which cells, (row, column of `columns`), are better than all others by more than the spread
    wins: set[tuple[int, int]] = field(default_factory=set)
    #: columns of a study after the first one: named rows and axes
    axes: list[str] = field(default_factory=list)
    #: the groups of `rows`, which may end with a row of real images
    groups: list[Mapping[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def board(data: Mapping[str, Any]) -> list[BoardTable]:
    """A table for each dataset, the best group of its first column on top."""
    tables = []
    datasets = dict.fromkeys(group["dataset"] for group in data["groups"])
    for dataset in datasets:
        columns = [column for column in data["columns"] if column["dataset"] == dataset]
        groups = _ranked([group for group in data["groups"] if group["dataset"] == dataset], columns)
        axes = axis_columns(groups)
        table = BoardTable(dataset, columns, ["architecture", *axes], [], axes=axes, groups=groups)
        table.head += [f"{column['label']} ({_arrow(column)})" for column in columns]
        table.head += ["seeds", "failures", "images"]
        for place, group in enumerate(groups):
            cells = {cell["column"]: cell for cell in group["cells"]}
            table.wins |= {(place, i) for i, c in enumerate(columns) if c["id"] in cells and cells[c["id"]]["wins"]}
            values = [_values(cells.get(column["id"])) for column in columns]
            counts = [str(len(group["seeds"])), str(len(group["failures"])), f"{group['images']:,}"]
            name = group["name"] if axes else group["label"]
            table.rows.append([name, *axis_cells(group, axes), *values, *counts])
        if any(column["floor"] is not None for column in columns):
            floors = [short_number(column["floor"]) for column in columns]
            table.rows.append(["real images (floor)", *("" for _ in axes), *floors, "", "", ""])
        table.notes = _notes(columns, groups)
        tables.append(table)
    return tables


def _ranked(groups: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if not columns:
        return list(groups)
    sign = 1 if columns[0]["better"] == "lower" else -1

    def key(group: Mapping[str, Any]) -> tuple[bool, float]:
        found = [cell for cell in group["cells"] if cell["column"] == columns[0]["id"]]
        return (not found, sign * found[0]["last"]["mean"] if found else 0.0)

    return sorted(groups, key=key)


def _arrow(column: Mapping[str, Any]) -> str:
    return f"{column['better']} is better"


def _values(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "-"
    last, best = _spread(cell["last"]), _spread(cell["best"])
    return last if last == best else f"{last}, best {best}"


def _spread(found: Mapping[str, Any]) -> str:
    return short_number(found["mean"]) + ("" if found["std"] is None else f" ± {found['std']:.2g}")


def _notes(columns: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [f"{column['label']}: {measured(column)}" for column in columns]
    labels: dict[tuple[str, str], int] = {}
    for column in columns:
        labels[column["score"], ""] = labels.get((column["score"], ""), 0) + 1
    notes += [
        f"{score} was measured in {count} ways, which stand in columns of their own and cannot be compared."
        for (score, _), count in labels.items()
        if count > 1
    ]
    notes += [f"{g['label']}, seed {f['seed']} failed: {f['reason']}" for g in groups for f in g["failures"]]
    if any(len(cell["seeds"]) == 1 for group in groups for cell in group["cells"]):
        notes.append("One seed has no spread.")
    return notes


def measured(column: Mapping[str, Any]) -> str:
    """How the values of a column were measured, in a sentence; as much of it as the card says."""
    card = column["card"]
    measure = card.get("measure", {})
    reals = measure.get("reals", {})
    words = []
    if "fakes" in measure:
        against = f" against {reals.get('images', '?')} {reals.get('split', '')} images" if reals else ""
        words.append(f"{measure['fakes']} fakes{against}")
    if standing := standing_words(measure):
        words.append(standing)
    if isinstance(measure.get("extractor"), Mapping):
        words.append(f"extractor {measure['extractor'].get('name', '?')}")
    words += [f"protocol {card.get('protocol', '?')}", f"card {column['digest']}"]
    return ", ".join(words) + "."


# --- the formats ------------------------------------------------------------------------------------------------------


def write(data: Mapping[str, Any], form: str) -> str:
    """The report as text in one of `FORMATS` but html."""
    return {"md": markdown, "csv": long_csv, "json": as_json, "latex": latex}[form](data)


def markdown(data: Mapping[str, Any]) -> str:
    """A table for each dataset, with notes on how its scores were measured."""
    lines = ["# GAN report", ""]
    for table in board(data):
        lines += [f"## {_one_line(table.title)}", "", _row(table.head), _row(["---"] * len(table.head))]
        lines += [_row(row) for row in table.rows]
        lines += ["", *(f"* {_one_line(note)}" for note in table.notes), ""]
    if data["failures"]:
        lines += ["## Not read or failed", ""]
        lines += [f"* `{_one_line(one['path'])}`: {_one_line(one['reason'])}" for one in data["failures"]]
        lines.append("")
    return "\n".join([*lines, LEGEND]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def _one_line(text: str) -> str:
    # a name must not become a tag or a picture of the page that shows the Markdown
    return " ".join(text.split()).replace("<", "&lt;").replace("![", "!\\[").replace("](", "]\\(")


_CSV = ["dataset", "architecture", "score", "better", "digest", "seeds", "last_mean", "last_std", "last_low"]
_CSV += ["last_high", "best_mean", "best_std", "images", "failures", "floor", "wins"]


def long_csv(data: Mapping[str, Any]) -> str:
    """A line for each group and score. A text that a spreadsheet would run as a formula begins with an apostrophe."""
    columns = {column["id"]: column for column in data["columns"]}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    axes = axis_columns(data["groups"])
    writer.writerow([*_CSV[:2], *axes, *_CSV[2:]])
    for group in data["groups"]:
        for cell in group["cells"]:
            column, last, best = columns[cell["column"]], cell["last"], cell["best"]
            values = [group["dataset"], group["label"], *axis_cells(group, axes)]
            values += [column["score"], column["better"], column["digest"]]
            values += [" ".join(map(str, cell["seeds"])), last["mean"], last["std"], *(cell["interval"] or ("", ""))]
            values += [best["mean"], best["std"], group["images"], len(group["failures"]), column["floor"]]
            writer.writerow([_harmless(value) for value in [*values, "yes" if cell["wins"] else ""]])
    return text.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value


def as_json(data: Mapping[str, Any]) -> str:
    """The data of the page without its pictures."""
    runs = [{k: v for k, v in run.items() if k not in ("film", "drawings")} for run in data["runs"]]
    return json.dumps({**data, "runs": runs}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
} | {letter: f"\\{letter}" for letter in "&%$#_{}"}


def latex(data: Mapping[str, Any]) -> str:
    r"""A booktabs table for each dataset. A value is bold only if it is better than all others by more than the spread.

    The document needs `\usepackage{booktabs}`.
    """
    parts = [r"% needs \usepackage{booktabs}"]
    columns = {column["id"]: column for column in data["columns"]}
    for table in board(data):
        head = [f"{column['label']} {_LATEX_ARROW[column['better']]}" for column in table.columns]
        lines = [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{_tex(table.title)}: mean and standard deviation over seeds, of the last generator.}}",
            f"  \\begin{{tabular}}{{l{'l' * len(table.axes)}{'r' * len(head)}r}}",
            r"    \toprule",
            "    " + " & ".join([*map(_tex, ["architecture", *table.axes]), *map(_tex_head, head), "seeds"]) + r" \\",
            r"    \midrule",
        ]
        for row, group in zip(table.rows, table.groups, strict=False):
            cells = {cell["column"]: cell for cell in group["cells"]}
            values = [_tex_cell(cells.get(column["id"])) for column in table.columns]
            names = map(_tex, row[: 1 + len(table.axes)])
            lines.append("    " + " & ".join([*names, *values, str(len(group["seeds"]))]) + r" \\")
        if len(table.rows) > len(table.groups):
            lines.append(r"    \midrule")
            floors = [_tex(short_number(columns[column["id"]]["floor"])) for column in table.columns]
            lines.append("    " + " & ".join(["real images", *("" for _ in table.axes), *floors, ""]) + r" \\")
        parts.append("\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]))
    return "\n\n".join(parts) + "\n"


_LATEX_ARROW = {"lower": "@down@", "higher": "@up@"}


def _tex_head(text: str) -> str:
    return _tex(text).replace("@down@", r"$\downarrow$").replace("@up@", r"$\uparrow$")


def _tex_cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "--"
    text = _tex(_spread(cell["last"]))
    return f"\\textbf{{{text}}}" if cell["wins"] else text


def _tex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in re.sub(r"\s+", " ", text))
