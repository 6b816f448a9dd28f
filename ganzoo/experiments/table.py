"""The table of a grid: a row for each configuration (architecture, dataset, values of axes) and score, over its seeds.

Values are averaged and put into one column only if they were measured in the same way: their cards' digests are equal.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from ganzoo.experiments.folder import Folder, Result
from ganzoo.experiments.grid import Trial
from ganzoo.experiments.real_baseline import NO_REAL_SCORES, RealScores
from ganzoo.results.report import bars, tables
from ganzoo.storage.files import write_atomically

#: resamples of the bootstrap
_DRAWS = 10_000
Row = dict[str, Any]


def rows_of(trials: Sequence[Trial], folder: Folder, real_scores: Mapping[str, RealScores]) -> list[Row]:
    """The rows, sorted by dataset, score and architecture in the order of the trials.

    `real_scores` are the scores of real images by dataset.
    """
    configurations: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        configurations.setdefault(trial.configuration, []).append(trial)
    datasets = list(dict.fromkeys(trial.dataset for trial in trials))
    found: list[tuple[tuple[int, int], Row]] = []
    for members in configurations.values():
        architecture, dataset = members[0].architecture, members[0].dataset
        results = [result for trial in members if (result := folder.result(trial))]
        results.sort(key=lambda result: result.seed)
        failed = {str(trial.recipe.seed): folder.reason(trial) for trial in members if folder.state(trial) == "failed"}
        expected = dict.fromkeys(one for trial in members for one in trial.expected_scores)
        for rank, (evaluator, score, better) in enumerate(expected):
            groups = _measured_alike(results, score)
            note = f"Measured in {len(groups)} ways, which cannot be averaged." if len(groups) > 1 else ""
            for group in groups:
                row: Row = {"architecture": architecture, "dataset": dataset, "evaluator": evaluator, "score": score}
                row |= {
                    "row": members[0].row,
                    "axes": dict(members[0].axes),
                    "better": better,
                    **_statistics(score, group),
                    "failures": len(failed),
                }
                row |= {"reasons": dict(sorted(failed.items())), "note": note}
                row |= _real_images(real_scores.get(dataset, NO_REAL_SCORES), score, group)
                row |= _facts(members[0], score, group)
                found.append(((datasets.index(dataset), rank), row))
    return [row for _, row in sorted(found, key=lambda item: item[0])]  # a stable sort: keeps the architectures' order


def _real_images(real_scores: RealScores, score: str, results: Sequence[Result]) -> Row:
    """The real baseline ("floor") and the scale of a row; None if the results were measured against other reals."""
    found = {name: values.get(score) for name, values in real_scores.items()}
    reals = found.pop("reals")
    reals_of_results = {result.last[score]["card"]["measure"]["reals"]["sha256"] for result in results}
    return found if reals_of_results <= {reals} else dict.fromkeys(found)


def _measured_alike(results: Sequence[Result], score: str) -> list[list[Result]]:
    """The results that have this score, grouped by the digest of its card; one empty group if there are none."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        if score in result.last:
            groups.setdefault(result.last[score]["card"]["digest"], []).append(result)
    return [group for _, group in sorted(groups.items())] or [[]]


def _statistics(score: str, results: Sequence[Result]) -> Row:
    last = spread([result.last[score]["value"] for result in results])
    best = spread([result.best[score]["value"] for result in results])
    best["images"] = [result.best[score]["images"] for result in results]
    return {
        "mean": last["mean"],
        "std": last["std"],
        "interval": interval(last["values"]),
        "seeds": len(results),
        "finished": [result.seed for result in results],
        "last": last,
        "best": best,
    }


def _facts(trial: Trial, score: str, results: Sequence[Result]) -> Row:
    """The recipe of a row, the card of its score, images seen, and mean seconds of a run."""
    card = results[0].last[score]["card"] if results else None
    return {
        "card": card_of_seeds(card) if card else None,
        "recipe": {name: value for name, value in trial.recipe.to_dict().items() if name != "seed"},
        "length": str(trial.recipe.length),
        "images_seen": results[0].images if results else None,
        "seconds": round(float(numpy.mean([result.seconds for result in results])), 1) if results else None,
    }


def card_of_seeds(card: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a card that all seeds share. Cards of version 0.1 and of most extractors have no `classifier`."""
    return {name: card[name] for name in ("protocol", "measure", "digest", "classifier") if name in card}


def spread(values: Sequence[float]) -> Row:
    """Mean and standard deviation (divided by n - 1) of the values, each None if there are too few, and the values."""
    return {
        "mean": float(numpy.mean(values)) if values else None,
        "std": float(numpy.std(values, ddof=1)) if len(values) > 1 else None,
        "values": list(values),
    }


def interval(values: Sequence[float]) -> list[float] | None:
    """The 95 % bootstrap interval [low, high] of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    indices = numpy.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    low, high = numpy.quantile(numpy.asarray(values)[indices].mean(1), (0.025, 0.975))
    return [float(low), float(high)]


def write(rows: Sequence[Row], out: Path) -> None:
    """Write table.json, .csv, .md and .png, each atomically. The same rows give the same bytes."""
    write_atomically(out / "table.json", (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(out / "table.csv", _csv(rows).encode())
    write_atomically(out / "table.md", tables.markdown(rows).encode())
    write_atomically(out / "table.png", bars.png(rows))


_PLAIN = ("architecture", "dataset", "evaluator", "score", "better", "mean", "std", "seeds", "failures", "floor")


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    more = ("low", "high", "best_mean", "best_std", "digest", "length", "images_seen", "seconds")
    axes = tables.axis_columns(rows)
    writer.writerow([*_PLAIN, *axes, *more])
    for row in rows:
        writer.writerow(
            [
                *(row[name] for name in _PLAIN),
                *tables.axis_cells(row, axes),
                *(row["interval"] or ("", "")),
                row["best"]["mean"],
                row["best"]["std"],
                row["card"]["digest"] if row["card"] else "",
                row["length"],
                row["images_seen"],
                row["seconds"],
            ]
        )
    return text.getvalue()
