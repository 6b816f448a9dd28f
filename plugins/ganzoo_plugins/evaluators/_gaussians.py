"""The Fréchet distance between two Gaussians, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def moments(total: Tensor, products: Tensor, count: Tensor) -> dict[str, Tensor]:
    """`mean` (D,) and unbiased `covariance` (D, D) from the sum of features (D,) and of their outer products (D, D)."""
    mean = total / count
    return {"count": count, "mean": mean, "covariance": (products - count * torch.outer(mean, mean)) / (count - 1)}


def root(covariance: Tensor) -> Tensor:
    """The symmetric square root (D, D) of a covariance; eigenvalues that rounding took below 0 count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    square_root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return square_root


def frechet_distance(reals: Mapping[str, Tensor], fakes: Mapping[str, Tensor]) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) from `count`, `mean`, `covariance` and, of the reals, `root`.

    C C' has the eigenvalues of the symmetric C^(1/2) C' C^(1/2), whose square roots are what the trace adds up. Of N
    images no more than N - 1 are above 0; the others are rounding, and their square roots would add up. What rounding
    takes below 0 counts as 0.
    """
    means = (reals["mean"] - fakes["mean"]).square().sum()
    values = torch.linalg.eigvalsh(reals["root"] @ fakes["covariance"] @ reals["root"])
    rank = min(len(values), int(reals["count"]) - 1, int(fakes["count"]) - 1)
    cross = values[-rank:].clamp(min=0).sqrt().sum()
    return max(0.0, float(means + reals["covariance"].trace() + fakes["covariance"].trace() - 2 * cross))
