"""Fréchet distances: the formula, the solver of torchmetrics, and numerically hard cases."""

from __future__ import annotations

import math

import pytest
import torch
from scoring import draw, frechet_by_hand, scores, show
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

import ganzoo
from ganzoo_plugins.evaluators._features import Precomputed
from ganzoo_plugins.evaluators.frechet import FID, FIDDomain
from ganzoo_plugins.extractors.domain import Domain

Evaluators = pytest.mark.parametrize("evaluator", [FID(), FIDDomain()], ids=["fid", "fid-domain"])


def score(evaluator: ganzoo.Evaluator, reals: Tensor, fakes: Tensor, batch: int = 64) -> float:
    (value,) = scores(evaluator, reals, fakes, batch=batch).values()
    return value


@Evaluators
def test_is_the_formula(evaluator: ganzoo.Evaluator) -> None:
    reals, fakes = draw(500, 24, seed=1), draw(300, 24, seed=2, offset=0.5)
    assert score(evaluator, reals, fakes) == pytest.approx(frechet_by_hand(reals, fakes), rel=1e-9)


def test_distance_of_two_gaussians_is_the_closed_form() -> None:
    # moments are exact by construction: mean 0 and 3, deviations 1 and 2 in 4 dimensions
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4).double() * math.sqrt(15 / 16)
    assert score(FIDDomain(), corners, 3 + 2 * corners) == pytest.approx(4 * (9 + 1), rel=1e-12)


@pytest.mark.parametrize(
    ("dimensions", "count"),
    [(64, 24), (64, 500), (192, 48), (192, 800), (768, 900), pytest.param(2048, 2500, marks=pytest.mark.slow)],
)
def test_agrees_with_the_solver_of_torchmetrics(dimensions: int, count: int) -> None:
    reals, fakes = draw(count, dimensions, seed=1), draw(count, dimensions, seed=2, offset=0.1)
    metric = FrechetInceptionDistance(Precomputed(dimensions))
    metric.update(reals.double(), real=True)
    metric.update(fakes.double(), real=False)
    assert score(FIDDomain(), reals, fakes, batch=count) == pytest.approx(float(metric.compute()), rel=1e-6)


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_is_the_formula_far_from_the_origin(offset: float) -> None:
    # sums of squares of such features lose the digits that the covariance depends on
    reals, fakes = draw(500, 8, seed=1).double() + offset, draw(300, 8, seed=2).double() + offset + 1
    assert score(FIDDomain(), reals, fakes) == pytest.approx(frechet_by_hand(reals, fakes), rel=1e-6)


@pytest.mark.parametrize(("reals", "fakes"), [(20, 15), (2, 2), (100, 3)])
def test_is_the_formula_for_rank_deficient_covariances(reals: int, fakes: int) -> None:
    some, others = draw(reals, 40, seed=1), draw(fakes, 40, seed=2)
    assert score(FID(), some, others) == pytest.approx(frechet_by_hand(some, others), rel=1e-6)


def test_a_constant_feature_is_allowed() -> None:
    reals, fakes = draw(200, 16, seed=1), draw(200, 16, seed=2)
    reals[:, 3] = fakes[:, 3] = 7
    assert score(FID(), reals, fakes) == pytest.approx(frechet_by_hand(reals, fakes), rel=1e-6)


@pytest.mark.parametrize("count", [500, 10])
def test_the_same_set_scores_zero_and_not_less(count: int) -> None:
    reals = draw(count, 24, seed=1)
    value = score(FIDDomain(), reals, reals)
    assert 0.0 <= value < 1e-6 * frechet_by_hand(reals, torch.zeros(2, 24))


def test_half_precision_features_are_summed_in_double() -> None:
    reals, fakes = draw(200, 16, seed=1).half(), draw(200, 16, seed=2).half()
    assert score(FID(), reals, fakes) == pytest.approx(frechet_by_hand(reals, fakes), rel=1e-9)


def test_statistics_are_float64_and_contain_the_square_root() -> None:
    evaluator, reals = FIDDomain(), draw(100, 8, seed=1)
    evaluator.reset(8, torch.device("cpu"))
    show(evaluator, reals, "reals")
    kept = evaluator.statistics()
    assert {name for name, value in kept.items() if value.dtype == torch.float64} == {
        "mean",
        "covariance",
        "root",
        "origin",
    }
    assert int(kept["count"]) == 100
    torch.testing.assert_close(kept["origin"] + kept["mean"], reals.double().mean(0))
    torch.testing.assert_close(kept["covariance"], reals.double().T.cov())
    torch.testing.assert_close(kept["root"] @ kept["root"], kept["covariance"])


def test_declares_its_extractor_and_layer() -> None:
    assert (FID().extractor, FID().layer, FID(layer="64").layer) == ("inception", "2048", "64")
    domain = FIDDomain()
    assert (domain.extractor, domain.layer, list(domain.scores)) == ("domain", "pre128", ["fid-domain"])
    assert domain.layer in Domain().layers
