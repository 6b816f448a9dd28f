"""Compute the scores of an evaluator for tests: reals, held-out reals and fakes, in batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import ganzoo


def draw(count: int, dimensions: int, seed: int, offset: float = 0.0) -> Tensor:
    """float32 features (count, dimensions) with correlated dimensions."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator)
    return torch.randn(count, dimensions, generator=generator) @ mixing + offset


def show(
    evaluator: ganzoo.Evaluator, features: Tensor, origin: ganzoo.Origin, labels: Tensor | None = None, batch: int = 64
) -> None:
    """Update an evaluator with features (N, ...) in batches. `labels`: None for zeros."""
    labels = torch.zeros(len(features), dtype=torch.int64) if labels is None else labels
    for some, classes in zip(features.split(batch), labels.split(batch), strict=True):
        evaluator.update(some, classes, origin)


def scores(
    evaluator: ganzoo.Evaluator,
    reals: Tensor,
    fakes: Tensor,
    held_out: Tensor | None = None,
    labels: Tensor | None = None,
    batch: int = 64,
) -> dict[str, float]:
    """All scores of `fakes`, drawn for `labels`, against `reals`."""
    evaluator.reset(reals[0].numel(), torch.device("cpu"))
    show(evaluator, reals, "reals", batch=batch)
    if held_out is not None:
        show(evaluator, held_out, "held-out", batch=batch)
    show(evaluator, fakes, "fakes", labels, batch)
    return evaluator.compute()


def frechet_by_hand(reals: Tensor, fakes: Tensor) -> float:
    """Heusel et al. 2017, equation 6, by singular values of the centred features: tr (C C')^(1/2) = |X Y^T|_nuclear.

    No covariance is computed, so that this is exact for any rank.
    """
    reals, fakes = reals.double(), fakes.double()
    x, y = ((rows - rows.mean(0)) / math.sqrt(len(rows) - 1) for rows in (reals, fakes))
    cross = torch.linalg.svdvals(x @ y.T).sum()
    means = (reals.mean(0) - fakes.mean(0)).square().sum()
    return float(means + x.square().sum() + y.square().sum() - 2 * cross)
