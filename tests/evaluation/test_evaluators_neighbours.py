"""Precision, recall, density, coverage, memorisation: sets made by hand, other packages, copies to be detected."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import mannwhitneyu
from scoring import scores
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch_fidelity.metric_prc import calculate_precision_recall_full
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

import ganzoo
from ganzoo_plugins.evaluators import _neighbours
from ganzoo_plugins.evaluators._features import Precomputed
from ganzoo_plugins.evaluators._neighbours import nearest, squared_radii
from ganzoo_plugins.evaluators.density_coverage import DensityCoverage
from ganzoo_plugins.evaluators.frechet import FIDDomain
from ganzoo_plugins.evaluators.memorisation import Memorisation, cosine_distance, rank_score
from ganzoo_plugins.evaluators.precision_recall import PrecisionRecall


def cloud(count: int, seed: int, dimensions: int = 4) -> Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def test_distances_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_neighbours, "BLOCK", 1000)  # several blocks, the last one smaller
    points, others = cloud(77, 1, 20) + 50, cloud(130, 2, 20) + 50
    reference = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(others.double().numpy())
    distances, indices = (torch.from_numpy(found) for found in reference.kneighbors(points.double().numpy()))
    squares, which = nearest(points, others)
    torch.testing.assert_close(squares.sqrt(), distances[:, 0])
    assert torch.equal(which, indices[:, 0])
    own, _ = reference.kneighbors(others.double().numpy())
    torch.testing.assert_close(squared_radii(others, 4).sqrt(), torch.from_numpy(own[:, 4]))


def test_equal_points_have_distance_zero_also_far_from_the_origin() -> None:
    points = cloud(50, 1, 128) * 3 + 100
    twins = torch.cat([points, points[:20]])
    assert int((squared_radii(twins, 1) == 0).sum()) == 40
    assert bool((nearest(points * (1 + 1e-7), points)[0] == 0).all())  # float32 rounding of a feature
    assert bool((nearest(points + 0.01, points)[0] > 0).all())


@pytest.mark.parametrize("neighbours", [1, 3])
def test_precision_and_recall_are_those_of_torch_fidelity(neighbours: int) -> None:
    reals, fakes = cloud(300, 1, 8), cloud(200, 2, 8) * 0.8 + 0.3
    precision, recall = calculate_precision_recall_full(fakes.double(), reals.double(), neighbours)
    assert 0.1 < recall < 1
    assert 0.1 < precision < 1
    found = scores(PrecisionRecall(neighbours=neighbours), reals, fakes)
    assert found == pytest.approx({"precision": precision, "recall": recall}, abs=1e-7)  # float32 shares


def line(*places: float) -> Tensor:
    return torch.tensor(places).unsqueeze(1)


def test_precision_and_recall_by_hand() -> None:
    # k = 1: the radii of the reals 0, 1 are 1, of 5, 7 are 2; of the fakes 2, 2.5 they are 0.5, of 6, 9 they are 3
    found = scores(PrecisionRecall(neighbours=1), line(0, 1, 5, 7), line(2, 2.5, 6, 9))
    assert found["precision"] == pytest.approx(3 / 4)  # 2 is on the border of the ball of 1, 2.5 outside; 9 on a border
    assert found["recall"] == pytest.approx(2 / 4)  # 5 and 7


def test_the_balls_of_repeated_fakes_contain_only_copies() -> None:
    reals = cloud(200, 1)
    found = scores(PrecisionRecall(), reals, reals[:10].repeat(20, 1))
    assert found == {"precision": 1.0, "recall": 10 / 200}


def test_precision_falls_with_noise_and_recall_with_dropped_halves() -> None:
    reals, fakes = cloud(400, 1), cloud(400, 2)
    whole = scores(PrecisionRecall(), reals, fakes)
    noisy = scores(PrecisionRecall(), reals, fakes * 3)
    half = scores(PrecisionRecall(), reals, fakes[fakes[:, 0] > 0])
    assert noisy["precision"] < 0.6 * whole["precision"]
    assert half["recall"] < 0.75 * whole["recall"]
    assert half["precision"] > 0.8


def test_density_and_coverage_by_hand() -> None:
    # k = 1: the radii of the reals 0 and 1 are 1, of 5 and 7 they are 2; borders are outside
    found = scores(DensityCoverage(neighbours=1), line(0, 1, 5, 7), line(0.5, 2, 6, 6.5))
    assert found == pytest.approx({"density": (2 + 0 + 2 + 2) / 4, "coverage": 1.0})
    found = scores(DensityCoverage(neighbours=1), line(0, 1, 5, 7), line(0.5, 2, 2, 100))
    assert found == pytest.approx({"density": 2 / 4, "coverage": 0.5})


def test_density_and_coverage_of_the_reals_themselves_are_one() -> None:
    reals = cloud(300, 1)
    assert scores(DensityCoverage(), reals, reals) == {"density": 1.0, "coverage": 1.0}
    repeated = scores(DensityCoverage(), reals, reals[:5].repeat(60, 1))
    assert repeated["coverage"] < 0.15
    far = scores(DensityCoverage(), reals, reals + 100)
    assert far == {"density": 0.0, "coverage": 0.0}


@pytest.mark.parametrize("kind", [PrecisionRecall, DensityCoverage])
def test_at_most_the_given_number_of_reals_is_used(kind: type[ganzoo.Evaluator]) -> None:
    reals, fakes = cloud(400, 1), cloud(100, 2)
    assert kind(reals=400).minimum == kind().minimum  # type: ignore[call-arg]
    fewer, all_of_them = kind(reals=50), kind(reals=1000)  # type: ignore[call-arg]
    assert scores(fewer, reals, fakes) != scores(all_of_them, reals, fakes) == scores(kind(), reals, fakes)
    kept = fewer.statistics()
    assert kept is not None
    assert {name: tuple(value.shape) for name, value in kept.items()} == {"reals": (50, 4), "radii": (50,)}
    assert (kind(extractor="inception").extractor, kind(extractor="inception").layer) == ("inception", "2048")  # type: ignore[call-arg]


def test_the_rank_score_is_that_of_mann_and_whitney() -> None:
    ours, theirs = cloud(60, 1, 1).flatten(), cloud(90, 2, 1).flatten() + 0.2
    statistic, probability = mannwhitneyu(ours.numpy(), theirs.numpy(), use_continuity=False, method="asymptotic")
    expected = -torch.special.ndtri(torch.tensor(1 - probability / 2, dtype=torch.float64))
    assert rank_score(ours, theirs) == pytest.approx(float(expected), rel=1e-6)
    assert rank_score(theirs, ours) == pytest.approx(-float(expected), rel=1e-6)
    assert statistic < 60 * 90 / 2
    assert rank_score(torch.zeros(50), torch.zeros(70)) == 0


def test_the_memorisation_distance_is_from_fakes_to_reals() -> None:
    reals = cloud(300, 1, 24)
    assert cosine_distance(reals[:3].repeat(100, 1), reals) < 1e-12
    assert cosine_distance(reals, reals[:3].repeat(100, 1)) > 0.2


def test_mifid_is_that_of_torchmetrics_with_reals_and_fakes_exchanged() -> None:
    reals, fakes, held_out = cloud(150, 1, 8) + 3, 1.1 * cloud(120, 2, 8) + 3, cloud(110, 3, 8) + 3
    metric = MemorizationInformedFrechetInceptionDistance(Precomputed(8), cosine_distance_eps=0.1)
    metric.update(fakes.double(), real=True)  # torchmetrics averages over the reals
    metric.update(reals.double(), real=False)
    found = scores(Memorisation(), reals, fakes, held_out)["mifid-domain"]
    assert found == pytest.approx(float(metric.compute()), rel=1e-6)
    assert found > 5 * scores(FIDDomain(), reals, fakes)["fid-domain"]


TRAIN, NEW, HELD_OUT = cloud(600, 1, 24), cloud(300, 2, 24), cloud(400, 5, 24)


def remembered(fakes: Tensor) -> dict[str, float]:
    return scores(Memorisation(), TRAIN, fakes, HELD_OUT)


def test_new_images_are_not_copies() -> None:
    found = remembered(NEW)
    assert found["authenticity"] > 0.4
    assert found["copies"] < 0.04
    assert (found["exact-copies"], found["twins"]) == (0, 0)
    assert abs(found["distance-gap"]) < 3


@pytest.mark.parametrize(("distinct", "twins"), [(500, 0.0), (10, 1.0)])
def test_copies_of_training_images_are_detected(distinct: int, twins: float) -> None:
    found = remembered(TRAIN[:distinct].repeat(500 // distinct, 1))
    assert (found["authenticity"], found["copies"], found["exact-copies"], found["twins"]) == (0, 1, 1, twins)
    assert found["distance-gap"] < -20
    assert found["mifid-domain"] > 1e3 * remembered(NEW)["mifid-domain"]


def test_half_as_many_copies_score_half() -> None:
    found = remembered(torch.cat([TRAIN[:150], NEW[:150]]))
    assert (found["exact-copies"], found["twins"]) == (0.5, 0)
    assert 0.5 <= found["copies"] < 0.54
    assert found["authenticity"] < 0.5
    assert found["distance-gap"] < -5


def test_copies_with_noise_are_copies_but_not_exact_copies() -> None:
    found = remembered(TRAIN[:300] + 0.1 * cloud(300, 4, 24))
    assert found["authenticity"] < 0.01
    assert found["copies"] > 0.95
    assert found["exact-copies"] == 0
    assert found["distance-gap"] < -15


def test_images_unlike_the_data_have_a_large_distance_gap() -> None:
    found = remembered(3 * NEW)
    assert found["distance-gap"] > 10
    assert found["authenticity"] > 0.95


def test_too_few_held_out_images_are_refused() -> None:
    with pytest.raises(ganzoo.GanzooError, match="at least 100 held-out images, not 99"):
        scores(Memorisation(), TRAIN, NEW, HELD_OUT[:99])
    assert Memorisation.held_out
