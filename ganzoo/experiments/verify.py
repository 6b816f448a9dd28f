"""Verifies a table: runs its trials again and decides for each row whether its mean is reproduced."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganzoo.contract.errors import UsageError
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.experiments.grid import Trial, expected_scores, make_trial
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.files import digest_of

RULE = (
    "A row holds if it was measured alike and its new mean lies in the old bootstrap interval widened by half the new "
    "one, or within 2 pooled standard deviations; with a single seed, within 25 % of the old value."
)
#: share of its old value by which a single seed may differ
_SINGLE = 0.25
_KEYS = {"architecture", "dataset", "evaluator", "score", "mean", "std", "interval", "finished", "card", "recipe"}


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table.json that have a mean. Raises UsageError if the file is not the table of a benchmark."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise UsageError(f"{path} is not the table.json of a benchmark: {error}.") from None
    valid = isinstance(rows, list) and all(isinstance(row, dict) and row.keys() >= _KEYS for row in rows)
    if not valid:
        raise UsageError(f"{path} is not the table.json of a benchmark: it is no list of rows.")
    found = [row for row in rows if row["mean"] is not None]
    if not found:
        raise UsageError(f"{path} has no row with a number, so there is nothing to verify.")
    return found


def trials_of(zoo: Zoo, rows: Sequence[Mapping[str, Any]], path: Path) -> list[Trial]:
    """The trials of the rows of the table in `path`, sorted by seed. Raises UsageError if one cannot run here."""
    trials: dict[str, Trial] = {}
    for row in rows:
        try:
            recipe = Recipe.from_dict(with_current_names(row["recipe"]))
            expected = expected_scores(zoo, [(str(choice), choice) for choice in recipe.evaluators])
            for seed in row["finished"]:
                texts, varied = (row["architecture"], row["dataset"]), (row.get("axes"), row.get("row", ""))
                trial = make_trial(zoo, *texts, expected, recipe.merged({"seed": seed}), *varied)
                trials.setdefault(trial.name, trial)
        except (UsageError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path}: the row of {row['architecture']} on {row['dataset']} cannot be run again: {error}"
            ) from None
    return sorted(trials.values(), key=lambda trial: trial.recipe.seed)


def verdicts(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each old row, its new mean, whether it holds, and why."""
    new_rows = {_identity(row): row for row in new}
    return [_verdict(row, new_rows.get(_identity(row))) for row in old]


def _identity(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return digest_of(with_current_names(row["recipe"])), row["score"], row["card"]["digest"] if row["card"] else ""


def _verdict(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> dict[str, Any]:
    verdict = {name: old[name] for name in ("architecture", "dataset", "evaluator", "score")}
    verdict |= {"row": old.get("row", ""), "axes": dict(old.get("axes") or {})}
    verdict |= {"then": old["mean"], "seeds_then": len(old["finished"])}
    if new is None:
        return verdict | {"now": None, "seeds": 0, "holds": False, "why": "nothing was measured alike; see the log"}
    holds, why = _compare(old, new)
    return verdict | {"now": new["mean"], "seeds": new["seeds"], "holds": holds, "why": why}


def _compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[bool, str]:
    if not old["interval"] or not new["interval"]:
        allowed = _SINGLE * abs(old["mean"])
        return abs(new["mean"] - old["mean"]) <= allowed, f"a single seed: may differ by {allowed:.3g}"
    low, high = old["interval"]
    margin = (new["interval"][1] - new["interval"][0]) / 2
    pooled = math.sqrt((old["std"] ** 2 + new["std"] ** 2) / 2)
    low, high = min(low - margin, old["mean"] - 2 * pooled), max(high + margin, old["mean"] + 2 * pooled)
    return low <= new["mean"] <= high, f"allowed: {low:.4g} to {high:.4g}"
