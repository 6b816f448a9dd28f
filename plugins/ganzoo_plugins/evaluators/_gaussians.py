"""The Fréchet distance between two Gaussians, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def moments(total: Tensor, products: Tensor, count: Tensor) -> dict[str, Tensor]:
    """`mean` (D,) and unbiased `covariance` (D, D) from sums of features (D,) and of their outer products (D, D)."""
    mean = total / count
    return {"count": count, "mean": mean, "covariance": (products - count * torch.outer(mean, mean)) / (count - 1)}


def root(covariance: Tensor) -> Tensor:
    """The symmetric square root (D, D) of a covariance (D, D); eigenvalues below 0, by rounding, count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    square_root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return square_root


def frechet_distance(reals: Mapping[str, Tensor], fakes: Mapping[str, Tensor]) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) from `count`, `mean`, `covariance` and, for the reals, `root`.

    Heusel et al. 2017 (arXiv:1706.08500), equation 6. C C' has the eigenvalues of the symmetric C^(1/2) C' C^(1/2),
    and the trace of its square root is the sum of their square roots. With N images at most N - 1 eigenvalues are
    above 0; the others are rounding errors, whose square roots would add up, and are left out. A negative result of
    rounding is returned as 0.
    """
    means = (reals["mean"] - fakes["mean"]).square().sum()
    values = torch.linalg.eigvalsh(reals["root"] @ fakes["covariance"] @ reals["root"])
    rank = min(len(values), int(reals["count"]) - 1, int(fakes["count"]) - 1)
    cross = values[-rank:].clamp(min=0).sqrt().sum()
    return max(0.0, float(means + reals["covariance"].trace() + fakes["covariance"].trace() - 2 * cross))
