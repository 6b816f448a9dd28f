"""The table of a grid: a row for each architecture, dataset and score, over all seeds that finished.

Only numbers measured alike, by the digest of their cards, are averaged or put in one column.
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

_DRAWS = 10_000
Row = dict[str, Any]


def rows_of(cells: Sequence[Trial], folder: Folder, known: Mapping[str, RealScores]) -> list[Row]:
    """The rows, by dataset, then score, then architecture, as they were asked for.

    `known` by dataset: what real images score.
    """
    pairs: dict[tuple[str, str], list[Trial]] = {}
    for cell in cells:
        pairs.setdefault(cell.pair, []).append(cell)
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    found: list[tuple[tuple[int, int], Row]] = []
    for (architecture, dataset), members in pairs.items():
        results = [result for cell in members if (result := folder.result(cell))]
        results.sort(key=lambda result: result.seed)
        failed = {str(cell.recipe.seed): folder.reason(cell) for cell in members if folder.state(cell) == "failed"}
        for rank, (evaluator, score, better) in enumerate(members[0].expected_scores):
            ways = _apart(results, score)
            note = f"Measured in {len(ways)} ways, which cannot be averaged." if len(ways) > 1 else ""
            for alike in ways:
                row: Row = {"architecture": architecture, "dataset": dataset, "evaluator": evaluator, "score": score}
                row |= {"better": better, **_numbers(score, alike), "failures": len(failed)}
                row |= {"reasons": dict(sorted(failed.items())), "note": note}
                row |= _real_images(known.get(dataset, NO_REAL_SCORES), score, alike)
                row |= _circumstances(members[0], score, alike)
                found.append(((datasets.index(dataset), rank), row))
    return [row for _, row in sorted(found, key=lambda item: item[0])]  # stable: architectures as asked for


def _real_images(known: RealScores, score: str, results: Sequence[Result]) -> Row:
    """Floor and scale of a row; none beside numbers that were measured against other reals than those."""
    found = {name: values.get(score) for name, values in known.items()}
    reals = found.pop("reals")
    theirs = {result.last[score]["card"]["measure"]["reals"]["sha256"] for result in results}
    return found if theirs <= {reals} else dict.fromkeys(found)


def _apart(results: Sequence[Result], score: str) -> list[list[Result]]:
    """Results whose numbers were measured alike, together; nothing at all is alike too."""
    ways: dict[str, list[Result]] = {}
    for result in results:
        if score in result.last:
            ways.setdefault(result.last[score]["card"]["digest"], []).append(result)
    return [found for _, found in sorted(ways.items())] or [[]]


def _numbers(score: str, results: Sequence[Result]) -> Row:
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


def _circumstances(cell: Trial, score: str, results: Sequence[Result]) -> Row:
    card = results[0].last[score]["card"] if results else None
    return {
        "card": {name: card[name] for name in ("protocol", "measure", "digest")} if card else None,
        "recipe": {name: value for name, value in cell.recipe.to_dict().items() if name != "seed"},
        "length": str(cell.recipe.length),
        "images_seen": results[0].images if results else None,
        "seconds": round(float(numpy.mean([result.seconds for result in results])), 1) if results else None,
    }


def spread(values: Sequence[float]) -> Row:
    """Mean and standard deviation (of n - 1), None where there are too few for one, and the values."""
    return {
        "mean": float(numpy.mean(values)) if values else None,
        "std": float(numpy.std(values, ddof=1)) if len(values) > 1 else None,
        "values": list(values),
    }


def interval(values: Sequence[float]) -> list[float] | None:
    """[low, high] of the mean, 95 %, by drawing seeds with replacement; None where there are fewer than two."""
    if len(values) < 2:
        return None
    drawn = numpy.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    low, high = numpy.quantile(numpy.asarray(values)[drawn].mean(1), (0.025, 0.975))
    return [float(low), float(high)]


def write(rows: Sequence[Row], out: Path) -> None:
    """table.json, .csv, .md and .png, each whole or as it was. The same rows give the same bytes."""
    write_atomically(out / "table.json", (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(out / "table.csv", _csv(rows).encode())
    write_atomically(out / "table.md", tables.markdown(rows).encode())
    write_atomically(out / "table.png", bars.png(rows))


_PLAIN = ("architecture", "dataset", "evaluator", "score", "better", "mean", "std", "seeds", "failures", "floor")


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    more = ("low", "high", "best_mean", "best_std", "digest", "length", "images_seen", "seconds")
    writer.writerow([*_PLAIN, *more])
    for row in rows:
        writer.writerow(
            [
                *(row[name] for name in _PLAIN),
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
