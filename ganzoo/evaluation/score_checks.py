"""Checks of evaluators: enough images, scores of different names, and values that are what an evaluator declares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.evaluation.features import RunningEvaluator


def require_enough(running: RunningEvaluator, counts: Mapping[str, int]) -> None:
    """Raises UsageError if a number of `counts` (kind of image -> number) is below the evaluator's minimum."""
    for kind, count in counts.items():
        if count < running.evaluator.minimum:
            raise UsageError(
                f"Evaluator {running.name} needs at least {running.evaluator.minimum} images of each kind, and "
                f"there are {count} {kind} ones: ask for more samples, or for an evaluator that needs fewer."
            )


def require_unique_scores(evaluators: Sequence[RunningEvaluator]) -> None:
    """Raises UsageError if two evaluators have a score of the same name."""
    owners: dict[str, Choice] = {}
    for running in evaluators:
        for name in running.evaluator.scores:
            if name in owners:
                raise UsageError(f"{owners[name]} and {running.choice} both give the score {name!r}: name one of them.")
            owners[name] = running.choice


def checked_scores(running: RunningEvaluator) -> dict[str, float]:
    """The scores of an evaluator. Raises GanzooError if they are not those it declares, within their bounds."""
    computed = running.evaluator.compute()
    declared = running.evaluator.scores
    if computed.keys() != declared.keys():
        raise GanzooError(
            f"Evaluator {running.name} returned the scores {', '.join(computed) or 'none'}, and declares "
            f"{', '.join(declared)}."
        )
    for name, value in computed.items():
        low, high = declared[name].low, declared[name].high
        if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise GanzooError(
                f"Evaluator {running.name} computed {name} = {value!r}, which is not a number between {low} and {high}."
            )
    return {name: float(value) for name, value in computed.items()}
