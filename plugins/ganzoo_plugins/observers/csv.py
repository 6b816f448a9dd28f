"""The run's statistics as a table for spreadsheets."""

from __future__ import annotations

import csv
import os
from typing import Any, TextIO

import ganzoo


class CSV(ganzoo.Observer):
    """Writes stats.csv beside stats.jsonl: one row a tick, with the columns of the first tick.

    The table depends on stats.jsonl alone. When a run starts or resumes, the table is written again from stats.jsonl,
    from which the steps after the checkpoint were removed before; then each tick is appended. So a resumed run ends
    with the same table as one that was never interrupted. Scalars that the first tick does not have are left out.
    """

    def __init__(self) -> None:
        self._columns: list[str] = []

    @ganzoo.hookimpl
    def on_run_start(self, run: Any) -> None:
        """Write the rows of all earlier ticks. Only rank 0 writes files."""
        if run.writes:
            self._rewrite(run)

    @ganzoo.hookimpl
    def on_tick(self, run: Any, scalars: dict[str, Any]) -> None:
        """Append a row; the first tick of a run writes the header too."""
        if not self._columns:
            self._rewrite(run)
            return
        with open(run.path / "stats.csv", "a", encoding="utf-8", newline="") as file:
            self._table(file).writerow(scalars)

    def _rewrite(self, run: Any) -> None:
        path = run.path / "stats.csv"
        lines = run.lines("stats.jsonl")
        self._columns = list(lines[0]) if lines else []
        if not lines:
            path.unlink(missing_ok=True)
            return
        temporary = path.with_name(".stats.csv.new")
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            table = self._table(file)
            table.writeheader()
            table.writerows(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def _table(self, file: TextIO) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self._columns, extrasaction="ignore", lineterminator="\n")
