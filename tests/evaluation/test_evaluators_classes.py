"""Kernel distance, inception score, modes and class accuracy: closed forms, other packages, values by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scoring import draw, scores
from torch import Tensor
from torch.nn.functional import one_hot
from torch_fidelity.metric_isc import isc_features_to_metric

import ganzoo
from ganzoo_plugins.evaluators.class_accuracy import ClassAccuracy
from ganzoo_plugins.evaluators.inception_score import InceptionScore, InceptionScoreDomain
from ganzoo_plugins.evaluators.kernel import KID, KIDDomain
from ganzoo_plugins.evaluators.mode_coverage import ModeCoverage


def sure(classes: Tensor, count: int, strength: float = 1e4) -> Tensor:
    """(N, count) logits of a classifier that is certain of every image."""
    return strength * one_hot(classes, count).float()


def test_kernel_distance_of_one_subset_is_the_unbiased_estimate() -> None:
    reals, fakes = draw(40, 6, seed=1).double(), draw(40, 6, seed=2).double() + 0.3
    among_reals, among_fakes, between = (
        (x @ y.T / 6 + 1) ** 3 for x, y in ((reals, reals), (fakes, fakes), (reals, fakes))
    )
    others = ~torch.eye(40, dtype=torch.bool)
    expected = among_reals[others].mean() + among_fakes[others].mean() - 2 * between.mean()
    found = scores(KIDDomain(subsets=1, subset_size=40), reals, fakes)["kid-domain"]
    assert found == pytest.approx(float(expected), rel=1e-10)


def test_kernel_distance_of_one_distribution_is_zero_on_average_and_may_be_negative() -> None:
    sets = [torch.randn(200, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(12)]
    values = torch.tensor([scores(KID(subset_size=100), *pair)["kid"] for pair in zip(sets[:6], sets[6:], strict=True)])
    assert bool((values < 0).any())
    assert float(values.mean().abs()) < 2 * float(values.std()) / math.sqrt(6)
    assert scores(KID(subset_size=100), sets[0], 1.5 * sets[1])["kid"] > 5 * float(values.std())


def test_kernel_distance_is_computed_in_double() -> None:
    reals = draw(60, 4, seed=1) * 30
    found = scores(KIDDomain(subsets=3, subset_size=60), reals, reals + 1e-3)["kid-domain"]
    expected = scores(KIDDomain(subsets=3, subset_size=60), reals.double(), (reals + 1e-3).double())["kid-domain"]
    assert found == expected


def test_kernel_distance_refuses_fewer_reals_than_a_subset() -> None:
    with pytest.raises(ganzoo.UsageError, match=r"reals=500 .* at least subset_size=1000"):
        KID(reals=500)
    assert (KID().minimum, KIDDomain(subset_size=50).minimum) == (1000, 50)


def test_inception_score_runs_from_one_to_the_number_of_classes() -> None:
    classes = torch.arange(1000) % 10
    reals = torch.zeros(2, 10)
    even = scores(InceptionScoreDomain(splits=1), reals, sure(classes, 10))
    assert even["inception-score-domain"] == pytest.approx(10, rel=1e-9)
    half = scores(InceptionScoreDomain(splits=1), reals, sure(classes % 5, 10))
    assert half["inception-score-domain"] == pytest.approx(5, rel=1e-9)
    for blind in (torch.zeros(1000, 10), sure(torch.full((1000,), 3), 10)):
        assert scores(InceptionScoreDomain(), reals, blind)["inception-score-domain"] == pytest.approx(1, abs=1e-12)


def test_all_splits_of_the_inception_score_have_the_same_size() -> None:
    classes = torch.randint(10, (101,), generator=torch.Generator().manual_seed(0))
    found, expected = (
        scores(InceptionScoreDomain(), torch.zeros(2, 10), sure(classes[:count], 10)) for count in (101, 100)
    )
    assert found == expected


def test_inception_score_is_that_of_torch_fidelity() -> None:
    logits = 3 * torch.randn(400, 12, generator=torch.Generator().manual_seed(0))
    ours = scores(InceptionScore(splits=1), torch.zeros(2, 12), logits)["inception-score"]
    theirs = isc_features_to_metric(logits, 1, False, 0)["inception_score_mean"]
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert scores(InceptionScore(splits=4), torch.zeros(2, 12), logits)["inception-score"] < ours
    assert (InceptionScore().minimum, InceptionScore(splits=1).minimum) == (100, 10)


def test_modes_by_hand() -> None:
    reals = torch.arange(400) % 4
    fakes = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    found = scores(ModeCoverage(), sure(reals, 4), sure(fakes, 4))
    divergence = sum(share * math.log(share / 0.25) for share in (0.6, 0.3, 0.1))
    assert found == pytest.approx({"modes": 3, "modes-missing": 0.25, "modes-kl": divergence}, rel=1e-12)


def test_modes_of_the_reals_themselves() -> None:
    logits = torch.randn(500, 7, generator=torch.Generator().manual_seed(0))
    found = scores(ModeCoverage(), logits, logits)
    assert found["modes"] == 7
    assert found["modes-missing"] == 0
    assert 0 <= found["modes-kl"] < 1e-4  # the half image added to each class


def test_modes_kl_is_finite_if_a_class_has_no_reals() -> None:
    found = scores(ModeCoverage(), sure(torch.zeros(100, dtype=torch.int64), 3), sure(torch.ones(100).long(), 3))
    assert found["modes"] == 1
    assert found["modes-missing"] == pytest.approx(2 / 3)
    assert found["modes-kl"] == pytest.approx(math.log(101.5 / 0.5))


def test_class_accuracy_is_the_share_of_the_requested_classes() -> None:
    asked = torch.arange(200) % 10
    drawn = torch.where(torch.arange(200) < 150, asked, (asked + 1) % 10)
    reals = torch.zeros(5, 10)
    assert scores(ClassAccuracy(), reals, sure(drawn, 10), labels=asked) == {"class-accuracy": 0.75}
    constant = sure(torch.full((200,), 4), 10)
    assert scores(ClassAccuracy(), reals, constant, labels=asked) == {"class-accuracy": 0.1}
