"""Compare two sets of values of one score: the difference of the means, its interval, and who wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy

#: resamples of the bootstrap
_DRAWS = 10_000

RULE = (
    "One is better by more than the spread if the 95 % bootstrap interval of the difference of the means does not "
    "contain 0, and the difference is larger than the pooled standard deviation. With a single value on one side there "
    "is no spread, and nothing is decided."
)


def difference(first: Sequence[float], second: Sequence[float], better: str) -> dict[str, Any]:
    """`delta`, the mean of `second` minus that of `first`, its 95 % `interval`, the `spread`, and the `winner`.

    `better` is "lower" or "higher". `interval` is a bootstrap interval over the values of both sides, and `spread` the
    pooled standard deviation; both are None if a side has fewer than two values. `winner` is "first", "second", or ""
    where the difference is not larger than the spread. See `RULE`.
    """
    return dict(_difference(tuple(first), tuple(second), better))


@lru_cache(maxsize=4096)
def _difference(first: tuple[float, ...], second: tuple[float, ...], better: str) -> dict[str, Any]:
    one, other = numpy.asarray(first, dtype=float), numpy.asarray(second, dtype=float)
    delta = float(other.mean() - one.mean())
    found: dict[str, Any] = {"delta": delta, "interval": None, "spread": None, "winner": ""}
    if len(one) < 2 or len(other) < 2:
        return found
    freedom = len(one) + len(other) - 2
    squares = (len(one) - 1) * one.var(ddof=1) + (len(other) - 1) * other.var(ddof=1)
    found["spread"] = math.sqrt(squares / freedom)
    means = _resampled_means(second, 1) - _resampled_means(first, 0)
    low, high = (float(bound) for bound in numpy.quantile(means, (0.025, 0.975)))
    found["interval"] = [low, high]
    if abs(delta) > found["spread"] and (low > 0 or high < 0):
        found["winner"] = "first" if (delta > 0) == (better == "lower") else "second"
    return found


@lru_cache(maxsize=1024)
def _resampled_means(values: tuple[float, ...], side: int) -> numpy.ndarray:
    """The means (10,000,) of resamples of one side; kept, because each group is compared with many others."""
    return numpy.asarray(values, dtype=float)[_indices(len(values), side)].mean(1)  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _indices(count: int, side: int) -> numpy.ndarray:
    """The resampled indices (10,000, count) of one side; the two sides are resampled independently."""
    return numpy.random.default_rng(side).integers(count, size=(_DRAWS, count))
