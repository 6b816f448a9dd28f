"""The table of a benchmark, one section for each dataset and score; all scores of a section can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ganzoo.contract.choice import Choice
from ganzoo.evaluation.corruptions import corruption_label

#: means within this factor are not ranked: ten extractors, trained from ten seeds, disagreed on a finer ranking
FACTOR = 1.25
COLUMNS = ("architecture", "last", "95 % interval", "best", "seeds", "failures", "length", "images seen", "training")
#: the column of named rows
_ROW = "row"

LEGEND = (
    "*last* is the generator at the end of the training, *best* the one that was kept as the best, with the images it "
    "had seen: mean ± standard deviation over the training seeds. The interval is the 95 % bootstrap of the mean of "
    "*last*."
)


@dataclass
class Section:
    """Scores that can be compared with each other: of one dataset, one score and one card digest."""

    title: str
    rows: list[Mapping[str, Any]]
    #: sentences below the table: how the scores were measured, and their limits
    notes: list[str] = field(default_factory=list)
    #: the columns of a study: its named rows and its axes
    axes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """`COLUMNS`, with those of the study after the architecture."""
        return [COLUMNS[0], *self.axes, *COLUMNS[1:]]

    @property
    def cells(self) -> list[list[str]]:
        """The rows as text, in the order of `columns`."""
        found = []
        for row in self.rows:
            architecture, *others = _cells(row)
            found.append([architecture, *axis_cells(row, self.axes), *others])
        return found


def axis_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of a study: `row` where rows have names, and the axes that some row has a value of."""
    named = [_ROW] if any(row.get("row") for row in rows) else []
    return [*named, *dict.fromkeys(name for row in rows for name in row.get("axes") or {})]


def axis_cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The texts of a row in the columns of `axis_columns`."""
    values = {_ROW: row.get("row", ""), **(row.get("axes") or {})}
    return [axis_text(values.get(name)) for name in columns]


def axis_text(value: Any) -> str:
    """The value of an axis as text: `0.0002`, `true`, `hinge`; a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def label(row: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """The architecture of a row with what tells it from `others`: the name of its row and the values of axes."""
    name = row.get("row") or ""
    same = [other.get("axes") or {} for other in others if (other.get("row") or "") == name]
    axes = row.get("axes") or {}
    words = [f"{axis}={axis_text(value)}" for axis, value in axes.items() if any(o.get(axis) != value for o in same)]
    return ", ".join([shown(row["architecture"]), *([name] if name else []), *words])


def sections_of(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The sections, in the order of the rows; the best row of a section comes first."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["card"]:
            groups.setdefault((row["dataset"], row["score"], row["card"]["digest"]), []).append(row)
    for row in rows:
        if not row["card"]:  # without a score (all seeds failed): shown in the section it would have been in
            same = [key for key in groups if key[:2] == (row["dataset"], row["score"])]
            groups.setdefault(same[0] if same else (row["dataset"], row["score"], ""), []).append(row)
    return [_section(group) for group in groups.values()]


def _section(group: list[Mapping[str, Any]]) -> Section:
    first = group[0]
    sign = 1 if first["better"] == "lower" else -1
    ranked = sorted(group, key=lambda row: (row["mean"] is None, sign * (row["mean"] or 0.0)))
    section = Section(f"{first['score']} on {shown(first['dataset'])}, {first['better']} is better", ranked)
    section.axes = axis_columns(ranked)
    if first["card"]:
        section.notes.append(_measure(first["card"]))
    if first["floor"] is not None:
        count = first["floor_images"]
        section.notes.append(f"Floor, {count:,} real images of the other split: {number(first['floor'])}.")
    if first["calibration"]:
        steps = [
            f"{corruption_label(one['damage'], one['strength'])} {number(one['value'])}" for one in first["calibration"]
        ]
        section.notes.append(f"Scale, the same images damaged: {'; '.join(steps)}.")
    for names in alike(ranked):
        section.notes.append(f"Not told apart, within a factor of {FACTOR:g}: {'; '.join(names)}.")
    if any(row["seeds"] == 1 for row in ranked):
        section.notes.append("One seed has no spread.")
    section.notes += [f"{label(row, ranked)}: {row['note']}" for row in ranked if row["note"]]
    section.notes += [
        f"{label(row, ranked)}, seed {seed} failed: {reason}"
        for row in ranked
        for seed, reason in row["reasons"].items()
    ]
    return section


def _measure(card: Mapping[str, Any]) -> str:
    measure = card["measure"]
    extractor, reals = measure["extractor"], measure["reals"]
    accuracy = (card.get("classifier") or {}).get("test_accuracy")
    classified = "" if accuracy is None else f" ({accuracy:.1%} of the test images classified correctly)"
    standing = f" ({words})" if (words := standing_words(measure)) else ""
    return (
        f"{measure['fakes']:,} fakes{standing} against the {reals['images']:,} {reals['split']} images, "
        f"{measure['shape']}; "
        f"{shown(extractor['name'])} {extractor['digest'][:12]}, {extractor['layer']}{classified}; "
        f"protocol {card['protocol']}, card {card['digest']}."
    )


def standing_words(measure: Mapping[str, Any]) -> str:
    """What a card says of the statistics of batch norm; empty where they are those of the training."""
    facts = measure.get("standing_statistics")
    return f"standing statistics of {facts['batches']} batches of {facts['batch_size']}" if facts else ""


def alike(ranked: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Groups of two or more consecutive rows of the ranking whose means are too close to be ranked."""
    chains: list[list[Mapping[str, Any]]] = []
    for row in ranked:
        if row["mean"] is None:
            continue
        if chains and _near(chains[-1][-1], row):
            chains[-1].append(row)
        else:
            chains.append([row])
    return [[label(row, ranked) for row in chain] for chain in chains if len(chain) > 1]


def _near(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    low, high = sorted((one["mean"], other["mean"]))
    if low > 0:
        return bool(high / low <= FACTOR)
    # a factor is meaningless for values around zero: compare the intervals instead
    spreads = [row["interval"] for row in (one, other)]
    return not all(spreads) or max(s[0] for s in spreads) <= min(s[1] for s in spreads)


def shown(spec: str) -> str:
    """The name of a part for tables: a location without its folders."""
    return spec.rpartition("/")[2] if Choice.parse(spec).is_location else spec


def number(value: float | None) -> str:
    """Four significant digits, or a dash for None."""
    return "-" if value is None else f"{value:.4g}"


def _spread(found: Mapping[str, Any]) -> str:
    return number(found["mean"]) + (f" ± {found['std']:.2g}" if found["std"] is not None else "")


def _cells(row: Mapping[str, Any]) -> list[str]:
    best, images = row["best"], row["best"]["images"]
    where = f" at {min(images):,}" + (f"..{max(images):,}" if len(set(images)) > 1 else "") if images else ""
    seconds = row["seconds"]
    return [
        shown(row["architecture"]),
        _spread(row["last"]),
        " .. ".join(map(number, row["interval"])) if row["interval"] else "-",
        _spread(best) + where,
        str(row["seeds"]),
        str(row["failures"]),
        row["length"],
        "-" if row["images_seen"] is None else f"{row['images_seen']:,}",
        "-" if seconds is None else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min",
    ]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """All sections as one Markdown page."""
    lines = ["# Benchmark", ""]
    for section in sections_of(rows):
        lines += [f"## {section.title}", "", _line(section.columns), _line(["---"] * len(section.columns))]
        lines += [_line(cells) for cells in section.cells]
        lines += ["", *(f"* {_one_line(note)}" for note in section.notes), ""]
    return "\n".join([*lines, LEGEND]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def _one_line(text: str) -> str:
    return " ".join(text.split())
