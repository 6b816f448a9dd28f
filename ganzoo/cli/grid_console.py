"""A grid as a person sees it while it is played: a live table on a terminal, a line for each cell in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ganzoo.cli.output import log

if TYPE_CHECKING:
    from ganzoo.experiments.grid import Trial

#: seconds between two pictures
_INTERVAL = 1.0


class GridConsole:
    """A table of architectures and datasets on a terminal's stderr; elsewhere nothing but what is said."""

    def __init__(self, cells: Sequence[Trial], out: Path) -> None:
        from ganzoo.experiments.folder import Folder

        self.folder = Folder(out)
        self.pairs: dict[tuple[str, str], list[Trial]] = {}
        for cell in cells:
            self.pairs.setdefault(cell.pair, []).append(cell)
        self._live: Any = None
        self._drawn = 0.0
        self._results: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Open the live table."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")), highlight=False)
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """One line, above the table where there is one."""
        if self._live is None:
            log(text)
        else:
            self._live.console.print(text, markup=False)

    def watch(self, states: Mapping[str, str]) -> None:
        """Draw the table anew, now and then."""
        if self._live is None or time.monotonic() - self._drawn < _INTERVAL:
            return
        self._drawn = time.monotonic()
        self._live.update(self._table(states), refresh=True)

    def _table(self, states: Mapping[str, str]) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        for column in ("architecture", "dataset", "done", "failed", "score so far", "now"):
            table.add_column(column, overflow="fold")
        for (architecture, dataset), cells in self.pairs.items():
            here = [states[cell.name] for cell in cells]
            done = f"{here.count('done')} of {len(cells)}"
            now = "  ".join(self._progress(cell) for cell in cells if states[cell.name] == "running")
            table.add_row(architecture, dataset, done, str(here.count("failed")), self._score(cells, states), now)
        return table

    def _score(self, cells: Sequence[Trial], states: Mapping[str, str]) -> str:
        """The first score of the finished cells, averaged where they were measured alike."""
        found = [result for cell in cells if states[cell.name] == "done" and (result := self._result(cell))]
        if not found:
            return ""
        name = next(iter(found[0].last))
        lines = [result.last[name] for result in found]
        values = [line["value"] for line in lines if line["card"]["digest"] == lines[0]["card"]["digest"]]
        return f"{name} {sum(values) / len(values):.4g}"

    def _result(self, cell: Trial) -> Any:
        if cell.name not in self._results:
            self._results[cell.name] = self.folder.result(cell)
        return self._results[cell.name]

    def _progress(self, cell: Trial) -> str:
        line = self.folder.progress(cell)
        if not line:
            return f"seed {cell.recipe.seed}: starting"
        length = cell.recipe.length
        position = length.count_of(line["step"], line["images"], line["epoch"])
        share = min(1.0, position / length.count)
        return f"seed {cell.recipe.seed}: {share:.0%}, {line['images_per_second']:.0f} images/s"
