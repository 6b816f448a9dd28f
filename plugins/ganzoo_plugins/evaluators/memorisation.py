"""Memorisation: whether the fakes are the training images."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.evaluators._features import Sample, require_enough, require_finite
from ganzoo_plugins.evaluators._gaussians import frechet_distance, root
from ganzoo_plugins.evaluators._neighbours import BLOCK, nearest, squared_radii

#: of the held-out images so many lie as near to the training images as what counts as a copy
QUANTILE = 0.01
#: mean cosine distances of float32 features below this are rounding
SMALLEST = 1e-6
#: Kaggle's threshold: a mean cosine distance above it counts as 1, no memorisation
THRESHOLD = 0.1


def _gaussian(features: Tensor) -> dict[str, Tensor]:
    features = features.double()
    return {"count": torch.tensor(len(features)), "mean": features.mean(dim=0), "covariance": features.T.cov()}


def rank_score(ours: Tensor, theirs: Tensor) -> float:
    """The z-score of Mann and Whitney's U: below 0 where `ours` (n,) tend to be smaller than `theirs` (m,)."""
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

    Distances are those of `pre128` to the nearest training image: pixels would take a copy shifted by one pixel for
    new. The reals are the training images, so protocols that score against others (lucic2018) are refused, and the
    held-out reals are new images to compare with.

    `authenticity`: share of fakes farther from their nearest training image than that is from the next one (Alaa et
    al. 2022, arXiv:2102.08921); 0.68 for new MNIST images. `copies`: share nearer than the nearest 1 % of held-out
    images; 0.01 for new images. `exact-copies`: share equal to a training image. `twins`: share equal to another fake.
    `distance-gap`: C_T of Meehan et al. 2020 (arXiv:2004.05675), the z-score of distances of fakes against those of
    held-out images, over one cell, all of the space; far below 0 is copying, far above 0 are images unlike the data,
    and its size grows with the square root of N. `mifid-domain`: Fréchet distance divided by the memorisation
    distance, the mean over fakes of the cosine distance to the nearest training image, which counts as 1 above 0.1
    (Bai et al. 2021, arXiv:2106.03062, and Kaggle). torchmetrics takes the mean over training images instead, and does
    not see a few of them repeated.
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
    #: a quantile of 1 % needs a hundred
    minimum = 100
    held_out = True
    split = "train"
    cost = (
        "distances of fakes to all training images: ten seconds for 10,000 to 60,000, and a minute where those are new"
    )

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Forget everything; features will be (N, dimensions)."""
        self.device = device
        self.samples: dict[ganzoo.Origin, Sample] = {"reals": Sample(), "held-out": Sample(), "fakes": Sample()}
        self.kept: dict[str, Tensor] = {}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Take in features (N, D). Raises GanzooError where one is not finite."""
        require_finite(features, origin, self)
        self.samples[origin].add(features)

    def statistics(self) -> dict[str, Tensor]:
        """All training features; squared distances of each to the next, and of the held-out ones to the nearest."""
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
        """Take up what `statistics` gave, in place of the reals and held-out reals."""
        self.kept = {name: value.to(self.device) for name, value in statistics.items()}

    def compute(self) -> dict[str, float]:
        """Shares from 0 to 1, a z-score, and a distance in units of the features."""
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
