"""Runs: what lies below a directory, as a list that a notebook shows as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ganzoo.api.display import Table, table_html
from ganzoo.api.parts import matches
from ganzoo.contract.choice import Amount, amount_in_words
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.paths import is_directory

#: what runs can be sorted by -> the key; those without a value come last
SORTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "path": lambda run: run["run"],
    "age": lambda run: -datetime.fromisoformat(run["modified"]).timestamp(),
    "size": lambda run: -run["bytes"],
    "score": lambda run: run["score"]["value"] * (1 if run["score"]["better"] == "lower" else -1),
    "length": lambda run: -run["epoch"],
    "state": lambda run: run["state"],
    "architecture": lambda run: run["architecture"],
    "dataset": lambda run: run["dataset"],
}


#: the columns of the table
COLUMNS = ("run", "state", "architecture", "dataset", "done", "last score", "size", "age")


class RunList(Table):
    """Runs, each a dict with the keys of `ganzoo runs --json`."""

    def _repr_html_(self) -> str:
        return table_html(COLUMNS, map(cells, self))


def cells(run: Mapping[str, Any]) -> list[str]:
    """The texts of a run below `COLUMNS`."""
    from ganzoo.results.runs import age_in_words, size_in_words

    score = run["score"]
    modified = run["modified"] and datetime.fromisoformat(run["modified"]).timestamp()
    return [
        run["run"],
        run["state"],
        run["architecture"] or "",
        run["dataset"] or "",
        _done(run),
        f"{score['score']} {score['value']:.4g}" if score else "",
        size_in_words(run["bytes"]),
        age_in_words(modified),
    ]


def _done(run: Mapping[str, Any]) -> str:
    """`50 epochs` of a run that has its whole length, `12.5 of 50 epochs` of others."""
    if run["length"] is None:
        return ""
    length = Amount.parse(run["length"])
    if run["share"] >= 1.0:
        return amount_in_words(length)
    return f"{length.count_of(run['step'], run['images'], run['epoch']):,.4g} of {amount_in_words(length)}"


def runs(
    path: str | Path = "runs",
    *,
    state: str | None = None,
    architecture: str | None = None,
    dataset: str | None = None,
    sort: str = "path",
) -> RunList:
    """The runs in a directory and up to four folders below it, such as those of a benchmark.

    Each is a dict: run, state, reason, architecture, dataset, seed, length, step, images, epoch, share, score, bytes,
    modified. `state` is one of training, finished, interrupted, imported, diverged, damaged. `architecture` and
    `dataset` are names, parts of names, or patterns with wildcards. `sort` is path, age (newest first), size (largest
    first), score (best first), length, state, architecture or dataset. Raises UsageError without such a directory,
    state or sort.
    """
    from ganzoo.results.runs import STATES, find_runs, run_facts

    directory = Path(path)
    if not is_directory(directory):
        raise UsageError(f"There is no directory {directory}: name the one that holds the runs.")
    for name, given, known in (("state", state, STATES), ("sort", sort, tuple(SORTS))):
        if given is not None and given not in known:
            raise UsageError(f"--{name} {given!r} is not one of: {', '.join(known)}.{did_you_mean(given, known)}")
    found = [_public(run_facts(run)) for run in find_runs(directory)]
    chosen = [
        run
        for run in found
        if state in (None, run["state"])
        and matches(run["architecture"] or "", architecture)
        and matches(run["dataset"] or "", dataset)
    ]
    return RunList(sorted(chosen, key=lambda run: _place(run, sort)))


def _public(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts with the time in words, as JSON has it."""
    modified = facts["modified"]
    when = datetime.fromtimestamp(modified, UTC).isoformat(timespec="seconds") if modified is not None else None
    return {**facts, "modified": when}


def _place(run: Mapping[str, Any], sort: str) -> tuple[bool, Any, str]:
    """The key of a run in a sorted list; what lacks the value comes last."""
    needed = {"age": "modified"}.get(sort, sort)
    missing = run.get(needed, "") is None
    return missing, None if missing else SORTS[sort](run), run["run"]
