"""Merge: benchmarks of several machines or people in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganzoo.api.display import BenchmarkTable
from ganzoo.api.progress import log


class MergedTable(BenchmarkTable):
    """Rows of several benchmarks, as in `BenchmarkTable`."""

    #: what was not joined: architecture, dataset, row, axes, score, seeds, folder and reason
    refused: list[dict[str, Any]]
    #: number of trials by folder
    trials: dict[str, int]


def merge(*folders: str | Path | Sequence[str | Path], out: str | Path) -> MergedTable:
    """Join the folders of benchmarks in the new folder `out`, and return the rows of its table.

    A row holds trials of one recipe, measured in one way. A row that was measured unlike the same score of the same
    dataset in an earlier folder, and a trial that two folders have with different scores, are left out and listed in
    `refused` with the reason. Where versions of ganzoo or torch differ, they are columns. Checkpoints are not copied.

    Raises UsageError for a folder that is no benchmark, for a single one, and where `out` holds something.
    """
    from ganzoo.experiments.merge import merge as join
    from ganzoo.experiments.merge import refusal_in_words

    paths = [Path(one) for given in folders for one in ([given] if isinstance(given, str | Path) else given)]
    found = join(paths, Path(out), log)
    for one in found.refused:
        log(refusal_in_words(one))
    table = MergedTable(found.rows, Path(out))
    table.refused, table.trials = found.refused, found.trials
    return table
