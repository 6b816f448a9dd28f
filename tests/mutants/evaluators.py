"""Faulty evaluators."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import ganzoo


class Good(ganzoo.Evaluator):
    """Squared distance of the means and of the standard deviations."""

    extractor, layer = "domain", "pre128"
    scores: Mapping[str, ganzoo.Score] = {"distance": ganzoo.Score("lower")}

    def reset(self, dimensions: int, device: torch.device) -> None:
        empty = torch.zeros(dimensions, dtype=torch.float64, device=device)
        self.sums = {origin: torch.stack([empty, empty, empty]) for origin in ("reals", "fakes")}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        features = features.double()
        self.sums[origin] += torch.stack([features.sum(0), features.square().sum(0), torch.ones_like(features).sum(0)])

    def moments(self, origin: str) -> tuple[Tensor, Tensor]:
        total, squares, count = self.sums[origin]
        mean = total / count
        return mean, (squares / count - mean.square()).clamp(min=0).sqrt()

    def compute(self) -> dict[str, float]:
        if min(float(sums[2, 0]) for sums in self.sums.values()) < self.minimum:
            raise ganzoo.GanzooError("A distance needs at least two images of each kind: ask for more samples.")
        return {"distance": self.distance()}

    def distance(self) -> float:
        (mean, deviation), (other_mean, other_deviation) = self.moments("reals"), self.moments("fakes")
        return float((mean - other_mean).square().sum() + (deviation - other_deviation).square().sum())

    def statistics(self) -> dict[str, Tensor]:
        return {"reals": self.sums["reals"].clone()}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        self.sums["reals"] = statistics["reals"]


class Bounded(Good):
    """Its declared upper bound is too low."""

    scores: Mapping[str, ganzoo.Score] = {"distance": ganzoo.Score("lower", high=1e-3)}


class Layerless(Good):
    """Names a layer that its extractor does not have."""

    layer = "pre129"


class Scaled(Good):
    """Multiplied by the deviation of the fakes: 0 where all fakes are alike."""

    def distance(self) -> float:
        return super().distance() * float(self.moments("fakes")[1].mean())


class Twins(ganzoo.Evaluator):
    """Share of fakes that occur twice: noise does not make it worse."""

    extractor, layer = "domain", "pre128"
    scores: Mapping[str, ganzoo.Score] = {"twins": ganzoo.Score("lower", high=1)}

    def reset(self, dimensions: int, device: torch.device) -> None:
        self.fakes: list[Tensor] = []

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        if origin == "fakes":
            self.fakes.append(features)

    def compute(self) -> dict[str, float]:
        fakes = torch.cat(self.fakes) if self.fakes else torch.zeros(0, 1)
        if len(fakes) < 2:
            raise ganzoo.GanzooError("Twins need at least two generated images: ask for more samples.")
        return {"twins": 1 - len(fakes.unique(dim=0)) / len(fakes)}


class Paired(Good):
    """Compares each fake with the real at the same index."""

    def reset(self, dimensions: int, device: torch.device) -> None:
        super().reset(dimensions, device)
        self.rows: dict[str, list[Tensor]] = {"reals": [], "fakes": []}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        super().update(features, labels, origin)
        self.rows[origin].append(features)

    def distance(self) -> float:
        reals, fakes = torch.cat(self.rows["reals"]), torch.cat(self.rows["fakes"])
        return float((reals[: len(fakes)] - fakes).double().square().sum(1).mean())

    def statistics(self) -> None:  # type: ignore[override]
        return None


class MeanOfMeans(Good):
    """The mean of the means of the batches."""

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        features = features.double()
        ones = torch.ones_like(features[0])
        self.sums[origin] += torch.stack([features.mean(0), features.square().mean(0), ones])
        self.seen[origin] += len(features)

    def reset(self, dimensions: int, device: torch.device) -> None:
        super().reset(dimensions, device)
        self.seen = {"reals": 2, "fakes": 0}

    def compute(self) -> dict[str, float]:
        if self.seen["fakes"] < self.minimum:
            raise ganzoo.GanzooError("A distance needs at least two images of each kind: ask for more samples.")
        return {"distance": self.distance()}


class Remembering(Good):
    """`reset` keeps the fakes of the last use."""

    def reset(self, dimensions: int, device: torch.device) -> None:
        fakes = getattr(self, "sums", {}).get("fakes")
        super().reset(dimensions, device)
        if fakes is not None:
            self.sums["fakes"] = fakes


class Spending(Good):
    """`compute` changes its sums."""

    def distance(self) -> float:
        value = super().distance()
        self.sums["fakes"][0] *= 2
        return value


class HalfKept(Good):
    """`restore` loses the deviation of the reals."""

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        total, _, count = statistics["reals"]
        self.sums["reals"] = torch.stack([total, total.square() / count, count])


class Credulous(Good):
    """Computes a score from one image."""

    def compute(self) -> dict[str, float]:
        return {"distance": self.distance()}


class InPlace(Good):
    """Doubles its features in place."""

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        super().update(features.mul_(2), labels, origin)


class Drawing(Good):
    """Draws from the global random generator."""

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        torch.rand(1)
        super().update(features, labels, origin)


MUTANTS = {
    "scores_are_as_declared": Bounded,
    "extractor_has_the_layer": Layerless,
    "bad_images_score_worse": Scaled,
    "same_set_scores_best": Twins,
    "order_does_not_matter": Paired,
    "batches_do_not_matter": MeanOfMeans,
    "reset_clears_all_state": Remembering,
    "computes_the_same_twice": Spending,
    "statistics_replace_the_reals": HalfKept,
    "too_few_images_are_refused": Credulous,
    "features_are_left_alone": InPlace,
    "random_state_is_left_alone": Drawing,
}
