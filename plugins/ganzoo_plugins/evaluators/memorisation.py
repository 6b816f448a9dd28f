"""Memorisation: whether the fakes are copies of training images."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._features import Sample, require_enough, require_finite
from ganzoo_plugins.evaluators._gaussians import frechet_distance, root
from ganzoo_plugins.evaluators._neighbours import BLOCK, nearest, squared_radii

#: a fake is a copy if it is as near to a training image as the nearest held-out images, which are this share of them
QUANTILE = 0.01
#: lower bound of the mean cosine distance: smaller values of float32 features are rounding errors
SMALLEST = 1e-6
#: Kaggle's threshold: from this mean cosine distance on, there is no memorisation, and the divisor is 1
THRESHOLD = 0.1


def _gaussian(features: Tensor) -> dict[str, Tensor]:
    features = features.double()
    return {"count": torch.tensor(len(features)), "mean": features.mean(dim=0), "covariance": features.T.cov()}


def rank_score(ours: Tensor, theirs: Tensor) -> float:
    """The z-score of the Mann-Whitney U statistic: below 0 if `ours` (n,) tend to be smaller than `theirs` (m,)."""
    ordered = theirs.sort().values
    below = torch.searchsorted(ordered, ours).sum() + torch.searchsorted(ordered, ours, right=True).sum()
    n, m = len(ours), len(theirs)
    return (float(below) / 2 - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)


def cosine_distance(points: Tensor, others: Tensor) -> float:
    """Mean over `points` (N, D) of 1 - |cosine| to the nearest of `others` (M, D)."""
    points, others = (torch.nn.functional.normalize(rows.double(), dim=1) for rows in (points, others))
    total = torch.zeros((), dtype=torch.float64, device=points.device)
    for rows in torch.split(points, max(1, BLOCK // len(others))):
        total += (1 - (rows @ others.T).abs_().amax(dim=1)).sum()
    return float(total) / len(points)


class Memorisation(ganzoo.Evaluator):
    """Whether the fakes are copies of training images: authenticity, copies, distance gap, MiFID on domain features.

    Distances are Euclidean, between `pre128` features, to the nearest training image. (In pixels a copy shifted by one
    pixel would look new.) The reals must be the training images: protocols with other reals (lucic2018) are refused.
    The held-out reals serve as new images to compare with.

    `authenticity`, 0 to 1, higher is better: the share of fakes that are farther from their nearest training image than
    that image is from its own nearest neighbour (Alaa et al. 2022, arXiv:2102.08921); 0.68 for new MNIST images.
    `copies`, 0 to 1, lower is better: the share of fakes nearer than the nearest 1 % of held-out images; 0.01 for new
    images. `exact-copies`, 0 to 1, lower is better: the share equal to a training image. `twins`, 0 to 1, lower is
    better: the share equal to another fake. `distance-gap`: C_T of Meehan et al. 2020 (arXiv:2004.05675) with a single
    cell, the whole space: the z-score of the Mann-Whitney U statistic of the distances of fakes against those of
    held-out images. Far below 0 means copies, far above 0 images unlike the data; it grows with the square root of N.
    `mifid-domain`, from 0, lower is better: the Fréchet distance divided by the mean over fakes of the cosine distance
    to the nearest training image, which counts as 1 from 0.1 (Bai et al. 2021, arXiv:2106.03062, and Kaggle).
    torchmetrics averages over training images instead, and so does not detect a few of them repeated.
    """

    extractor = "domain"
    layer = "pre128"
    scores = {
        "authenticity": ganzoo.Score("higher", high=1.0),
        "copies": ganzoo.Score("lower", high=1.0),
        "exact-copies": ganzoo.Score("lower", high=1.0),
        "twins": ganzoo.Score("lower", high=1.0),
        "distance-gap": ganzoo.Score("higher", low=-math.inf),
        "mifid-domain": ganzoo.Score("lower"),
    }
    # a quantile of 1 % needs a hundred images
    minimum = 100
    held_out = True
    split = "train"
    cost = (
        "distances of fakes to all training images: ten seconds for 10,000 to 60,000, and a minute where those are new"
    )

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state. The features will be (N, dimensions)."""
        self.device = device
        self.samples: dict[ganzoo.Origin, Sample] = {"reals": Sample(), "held-out": Sample(), "fakes": Sample()}
        self.kept: dict[str, Tensor] = {}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add features (N, D) of one origin. Raises GanzooError if one is not finite."""
        require_finite(features, origin, self)
        self.samples[origin].add(features)

    def statistics(self) -> dict[str, Tensor]:
        """`reals` (N, D), all training features, and squared distances to the nearest (other) training image.

        `radii` (N,) are those of the training images, `held-out` (M,) those of the held-out images.
        """
        if not self.kept:
            reals, held_out = self.samples["reals"], self.samples["held-out"]
            require_enough("Memorisation", self.minimum, real=len(reals), held_out=len(held_out))
            self.kept = {
                "reals": reals.rows(),
                "radii": squared_radii(reals.rows(), 1),
                "held-out": nearest(held_out.rows(), reals.rows())[0],
            }
        return self.kept

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use the result of `statistics` in place of the reals and held-out reals."""
        self.kept = {name: value.to(self.device) for name, value in statistics.items()}

    def compute(self) -> dict[str, float]:
        """Four shares from 0 to 1, a z-score (`distance-gap`), and a distance in feature units (`mifid-domain`)."""
        require_enough("Memorisation", self.minimum, generated=len(self.samples["fakes"]))
        known, fakes = self.statistics(), self.samples["fakes"].rows()
        distances, indices = nearest(fakes, known["reals"])
        shares = {
            "authenticity": distances > known["radii"][indices],
            "copies": distances <= torch.quantile(known["held-out"], QUANTILE),
            "exact-copies": distances == 0,
            "twins": squared_radii(fakes, 1) == 0,
        }
        return {
            **{name: float(which.double().mean()) for name, which in shares.items()},
            "distance-gap": rank_score(distances, known["held-out"]),
            "mifid-domain": _mifid(known["reals"], fakes),
        }


def _mifid(reals: Tensor, fakes: Tensor) -> float:
    gaussian = _gaussian(reals)
    distance = frechet_distance({**gaussian, "root": root(gaussian["covariance"])}, _gaussian(fakes))
    memorisation = cosine_distance(fakes, reals)
    return distance / (max(memorisation, SMALLEST) if memorisation < THRESHOLD else 1.0)
