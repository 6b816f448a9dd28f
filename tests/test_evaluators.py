"""Fréchet distances: against the formula, and what they must answer to bad input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets.digits import Digits
from ganzoo_plugins.evaluators.frechet import FID, FIDDomain
from ganzoo_plugins.extractors.domain import Domain

Evaluators = pytest.mark.parametrize("evaluator", [FID(), FIDDomain()], ids=["fid", "fid-domain"])


def draw(count: int, dimensions: int, seed: int, offset: float = 0.0) -> Tensor:
    """float32 features whose dimensions depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator)
    return torch.randn(count, dimensions, generator=generator) @ mixing + offset


def score(evaluator: ganzoo.Evaluator, reals: Tensor, fakes: Tensor, batch: int = 64) -> float:
    evaluator.reset(reals.shape[1], torch.device("cpu"))
    for features in reals.split(batch):
        evaluator.update(features, real=True)
    for features in fakes.split(batch):
        evaluator.update(features, real=False)
    (value,) = evaluator.compute().values()
    return value


def formula(reals: Tensor, fakes: Tensor) -> float:
    """Heusel et al. 2017, equation 6, in its symmetric form: all square roots are of symmetric matrices."""
    reals, fakes = reals.double(), fakes.double()
    values, vectors = torch.linalg.eigh(reals.T.cov())
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ fakes.T.cov() @ root).clamp(min=0).sqrt().sum()
    means = (reals.mean(0) - fakes.mean(0)).square().sum()
    return float(means + reals.T.cov().trace() + fakes.T.cov().trace() - 2 * cross)


@Evaluators
def test_is_the_formula(evaluator: ganzoo.Evaluator) -> None:
    reals, fakes = draw(500, 24, seed=1), draw(300, 24, seed=2, offset=0.5)
    assert score(evaluator, reals, fakes) == pytest.approx(formula(reals, fakes), rel=1e-9)


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_stays_the_formula_far_from_the_origin(offset: float) -> None:
    # sums of squares of such features would have lost the digits that hold the covariance
    reals, fakes = draw(500, 8, seed=1).double() + offset, draw(300, 8, seed=2).double() + offset + 1
    assert score(FIDDomain(), reals, fakes) == pytest.approx(formula(reals, fakes), rel=1e-6)


def test_is_the_formula_where_the_covariances_are_of_deficient_rank() -> None:
    reals, fakes = draw(20, 40, seed=1), draw(15, 40, seed=2)
    assert score(FID(), reals, fakes) == pytest.approx(formula(reals, fakes), rel=1e-6)


@pytest.mark.parametrize("count", [500, 10])
def test_same_set_scores_zero_and_never_less(count: int) -> None:
    reals = draw(count, 24, seed=1)
    value = score(FIDDomain(), reals, reals)
    assert 0.0 <= value < 1e-4 * formula(reals, torch.zeros(2, 24))


def test_neither_order_nor_batches_matter() -> None:
    reals, fakes = draw(200, 16, seed=1), draw(200, 16, seed=2)
    shuffled = fakes[torch.randperm(200, generator=torch.Generator().manual_seed(3))]
    assert score(FID(), reals, shuffled, batch=7) == pytest.approx(score(FID(), reals, fakes), rel=1e-9)


def test_half_precision_features_are_summed_in_double() -> None:
    reals, fakes = draw(200, 16, seed=1).half(), draw(200, 16, seed=2).half()
    assert score(FID(), reals, fakes) == pytest.approx(formula(reals, fakes), rel=1e-9)


def test_reset_forgets() -> None:
    evaluator = FIDDomain()
    reals, fakes = draw(100, 8, seed=1), draw(100, 8, seed=2)
    first = score(evaluator, reals, fakes)
    score(evaluator, draw(100, 8, seed=3), draw(100, 8, seed=4))
    assert score(evaluator, reals, fakes) == first


@Evaluators
@pytest.mark.parametrize(("real", "culprit"), [(True, "real images"), (False, "generated images")])
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_names_whose_features_are_not_finite(
    evaluator: ganzoo.Evaluator, real: bool, culprit: str, broken: float
) -> None:
    features = draw(10, 4, seed=1)
    features[3:5, 2] = broken
    evaluator.reset(4, torch.device("cpu"))
    with pytest.raises(ganzoo.GanzooError, match=f"2 of 10 {culprit}.*{evaluator.extractor}, {evaluator.layer}"):
        evaluator.update(features, real=real)


@pytest.mark.parametrize(("reals", "fakes"), [(0, 0), (5, 1), (1, 5), (5, 0)])
def test_refuses_fewer_than_two_images(reals: int, fakes: int) -> None:
    with pytest.raises(ganzoo.GanzooError, match=f"at least 2 .* not {reals} and {fakes}"):
        score(FIDDomain(), draw(5, 4, seed=1)[:reals], draw(5, 4, seed=2)[:fakes])


def test_says_what_it_takes() -> None:
    assert (FID().extractor, FID().layer, FID().directions) == ("inception", "2048", {"fid": "lower"})
    assert FID(layer="64").layer == "64"
    domain = FIDDomain()
    assert (domain.extractor, domain.layer, domain.directions) == ("domain", "pre128", {"fid-domain": "lower"})
    assert domain.layer in Domain().layers


def noise(deviation: float) -> Callable[[Tensor, Tensor], Tensor]:
    def damage(images: Tensor, labels: Tensor) -> Tensor:
        drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        return ganzoo.to_uint8(images + deviation * drawn, (0, 255))

    return damage


def drop_classes(count: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda images, labels: images[labels >= count]


def repeat(count: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda images, labels: images[:count].repeat(len(images) // count, 1, 1, 1)


DAMAGES = {
    "noise": [noise(10), noise(20), noise(40)],
    "dropped classes": [drop_classes(1), drop_classes(3), drop_classes(9)],
    "repeated images": [repeat(30), repeat(10), repeat(1)],
}


@pytest.mark.parametrize("damages", DAMAGES.values(), ids=DAMAGES)
def test_domain_distance_of_real_digits_grows_with_their_damage(
    damages: list[Callable[[Tensor, Tensor], Tensor]],
) -> None:
    reals, tests = Digits(split="train"), Digits(split="test")
    extractor = Domain()
    extractor.bind("digits", reals)
    images, _ = reals.read(torch.arange(len(reals)))
    real_features = extractor(images)["pre128"]
    test_images, labels = tests.read(torch.arange(len(tests)))
    values = [score(FIDDomain(), real_features, extractor(test_images)["pre128"])]  # the floor
    for damage in damages:
        values.append(score(FIDDomain(), real_features, extractor(damage(test_images, labels))["pre128"]))
        assert values[-1] > 1.1 * values[-2], values
