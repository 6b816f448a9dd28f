"""Writes the table of records in docs/results.md from the files that `ganzoo speedrun` writes.

    python benchmarks/records.py

To add a record, copy its file into benchmarks/results/speedrun/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measure import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
_SECTION = re.compile("(<!-- records: written by benchmarks/records.py -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_COLUMNS = (
    "dataset",
    "target",
    "architecture",
    "training, s",
    "images",
    "steps",
    "scoring, s",
    "seeds",
    "fakes",
    "where",
    "record",
)


def _mean(found: Mapping[str, Any] | None, way: str) -> str:
    """Mean ± standard deviation; a dash if not every seed reached the target."""
    if found is None:
        return "-"
    return f"{found['mean']:{way}}" + (f" ± {found['std']:{way}}" if found["std"] is not None else "")


def row(record: Mapping[str, Any], file: str) -> list[str]:
    """One row of the table."""
    machine, seeds = record["machine"], record["seeds"]
    threads = f", {machine['threads']} threads" if machine["device"] == "cpu" else ""
    where = f"{machine['device_name']}{threads}, torch {machine['versions']['torch']}"
    return [
        f"`{record['dataset']}`",
        f"`{record['target']}`",
        f"`{record['architecture']}`, {record['recipe']['precision']}",
        _mean(record["training_seconds"], ".1f"),
        _mean(record["images"], ",.0f"),
        _mean(record["steps"], ",.0f"),
        _mean(record["scoring_seconds"], ".1f"),
        f"{record['reached']} of {len(seeds)}",
        f"{record['card']['measure']['fakes']:,}" if record["card"] else "-",
        where,
        f"[{record['recipe_digest'][:8]}](../benchmarks/results/speedrun/{file})",
    ]


def table(folder: Path = RESULTS / "speedrun") -> str:
    """The table in Markdown, sorted by dataset, target and training time."""
    found = [(json.loads(file.read_text()), file.name) for file in sorted(folder.glob("*.json"))]

    def order(item: tuple[dict[str, Any], str]) -> tuple[str, str, float]:
        record, _ = item
        seconds = record["training_seconds"]
        return record["dataset"], record["target"], seconds["mean"] if seconds else float("inf")

    lines = [list(_COLUMNS), ["---"] * len(_COLUMNS), *(row(*item) for item in sorted(found, key=order))]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rewritten(page: str, records: str) -> str:
    """The page with its table of records replaced."""
    return _SECTION.sub(lambda match: match[1] + records + match[3], page)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(), table()))
