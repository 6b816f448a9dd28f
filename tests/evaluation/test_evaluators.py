"""Every evaluator: no dependence on batches or the random state; statistics replace reals; bad input is refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from helpers import ZOO
from scoring import scores, show
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets.digits import Digits
from ganzoo_plugins.evaluators._features import Sample, fixed_draws
from ganzoo_plugins.evaluators.frechet import FIDDomain
from ganzoo_plugins.extractors.domain import Domain
from ganzoo_plugins.extractors.inception import LAYERS as INCEPTION_LAYERS
from ganzoo_plugins.extractors.pixels import Pixels

#: options with which few images are enough
OPTIONS = {"kid": {"subsets": 5, "subset_size": 20}, "kid-domain": {"subsets": 5, "subset_size": 20}}
NAMES = [part.name for part in ZOO.components("evaluators") if part.distribution == "torch-ganzoo"]
#: evaluators whose scores do not depend on reals
WITHOUT_REALS = ("class-accuracy", "inception-score", "inception-score-domain")
Every = pytest.mark.parametrize("name", NAMES)


def build(name: str) -> ganzoo.Evaluator:
    return ZOO.load("evaluators", ganzoo.Choice(name))(**OPTIONS.get(name, {}))


def features(evaluator: ganzoo.Evaluator, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if evaluator.extractor == "pixels":
        return torch.rand(count, 1, 16, 16, generator=generator)
    return torch.randn(count, 10, generator=generator)


def sets(evaluator: ganzoo.Evaluator) -> tuple[Tensor, Tensor, Tensor]:
    """Reals, fakes, held-out reals."""
    return features(evaluator, 150, 1), features(evaluator, 130, 2) * 0.9, features(evaluator, 110, 3)


def answer(name: str, batch: int = 64, **changes: Tensor) -> dict[str, float]:
    evaluator = build(name)
    reals, fakes, held_out = sets(evaluator)
    given = {"reals": reals, "fakes": fakes, "held_out": held_out if evaluator.held_out else None} | changes
    return scores(evaluator, **given, labels=torch.arange(len(given["fakes"])) % 10, batch=batch)


@Every
def test_declares_its_layer_and_scores(name: str) -> None:
    evaluator = build(name)
    layers = {"inception": INCEPTION_LAYERS, "domain": {"pre128": 128, "logits": 10}, "pixels": Pixels().layers}
    layers |= {"dinov2": {"features": 1024}, "clip": {"features": 512}, "swav": {"features": 2048}}
    assert evaluator.layer in layers[evaluator.extractor]
    assert evaluator.cost
    assert evaluator.minimum >= 2
    found = answer(name)
    assert found.keys() == evaluator.scores.keys()
    for score, value in found.items():
        meaning = evaluator.scores[score]
        assert type(value) is float
        assert math.isfinite(value)
        assert meaning.low <= value <= meaning.high
        assert meaning.better in ("lower", "higher")


@Every
def test_batches_do_not_matter(name: str) -> None:
    assert answer(name, batch=1000) == pytest.approx(answer(name, batch=7), rel=1e-9)


@Every
def test_does_not_depend_on_the_random_state_and_restores_it(name: str) -> None:
    before = torch.get_rng_state()
    first = answer(name)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert answer(name) == first


@Every
def test_statistics_replace_the_reals(name: str) -> None:
    evaluator, other = build(name), build(name)
    reals, fakes, held_out = sets(evaluator)
    evaluator.reset(reals[0].numel(), torch.device("cpu"))
    show(evaluator, reals, "reals")
    if evaluator.held_out:
        show(evaluator, held_out, "held-out")
    kept = evaluator.statistics()
    assert kept is not None
    for each in (evaluator, other):  # the same evaluator, and a new one as in another process
        each.reset(reals[0].numel(), torch.device("cpu"))
        each.restore({key: value.clone() for key, value in kept.items()})
        show(each, fakes, "fakes", torch.arange(len(fakes)) % 10)
        assert each.compute() == answer(name)


@Every
def test_reset_clears_all_state(name: str) -> None:
    evaluator = build(name)
    reals, fakes, held_out = sets(evaluator)
    given = {"held_out": held_out if evaluator.held_out else None, "labels": torch.arange(len(fakes)) % 10}
    first = scores(evaluator, reals, fakes, **given)
    scores(evaluator, reals * 0.3, fakes * 0.1, **given)
    assert scores(evaluator, reals, fakes, **given) == first


@Every
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(name: str, broken: float) -> None:
    evaluator = build(name)
    some = features(evaluator, 10, 1)
    evaluator.reset(some[0].numel(), torch.device("cpu"))
    for origin, culprit in (("reals", "real"), ("fakes", "generated")):
        some[3:5, 0] = broken
        with pytest.raises(ganzoo.GanzooError, match=f"2 of 10 {culprit} .*{evaluator.extractor}, {evaluator.layer}"):
            evaluator.update(some, torch.zeros(10, dtype=torch.int64), origin)


@Every
def test_refuses_too_few_fakes(name: str) -> None:
    evaluator = build(name)
    few = evaluator.minimum - 1
    with pytest.raises(ganzoo.GanzooError, match=f"at least {evaluator.minimum} generated images, not {few}: ask"):
        answer(name, fakes=features(evaluator, few, 2))


@Every
def test_refuses_too_few_reals_if_it_uses_them(name: str) -> None:
    evaluator = build(name)
    if name in WITHOUT_REALS:
        assert answer(name, reals=features(evaluator, 1, 2)) == answer(name)
        return
    few = evaluator.minimum - 1
    with pytest.raises(ganzoo.GanzooError, match=f"at least {evaluator.minimum} real images, not {few}: ask"):
        answer(name, reals=features(evaluator, few, 2))


def test_a_sample_is_even_and_its_batches_do_not_matter() -> None:
    rows = torch.arange(10_007)
    samples = []
    for batch in (1, 64, 20_000):
        sample = Sample(1000)
        for some in rows[: 3000 if batch == 1 else None].split(batch):
            sample.add(some)
        assert len(sample) == len(sample.rows()) == 1000
        samples.append(sample.rows())
    assert torch.equal(samples[1], samples[2])
    places = samples[1]
    assert torch.equal(places, places.sort().values)
    assert int(places.diff().max()) < 3 * 10.007
    # if the classes are in a periodic order, no class is kept much more often; with every 10th row one would be
    for period in range(2, 33):
        counts = (places % period).bincount(minlength=period)
        assert int(counts.max() - counts.min()) <= 4.5 * math.sqrt(1000 / period), period
    assert int((places % 10).bincount().max()) <= 110


def test_a_sample_of_few_rows_is_all_of_them() -> None:
    sample = Sample(100)
    sample.add(torch.arange(40))
    sample.add(torch.arange(40, 100))
    assert torch.equal(sample.rows(), torch.arange(100))
    with pytest.raises(ganzoo.GanzooError, match="before it was updated with images"):
        Sample().rows()


def test_fixed_draws_are_the_same_and_restore_the_random_state() -> None:
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with fixed_draws():
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.get_rng_state(), before)


def noise(deviation: float) -> Callable[[Tensor, Tensor], Tensor]:
    def corrupt(images: Tensor, labels: Tensor) -> Tensor:
        drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        return ganzoo.to_uint8(images + deviation * drawn, (0, 255))

    return corrupt


def drop_classes(count: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda images, labels: images[labels >= count]


def repeat(count: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda images, labels: images[:count].repeat(len(images) // count, 1, 1, 1)


CORRUPTIONS = {
    "noise": [noise(10), noise(20), noise(40)],
    "dropped classes": [drop_classes(1), drop_classes(3), drop_classes(9)],
    "repeated images": [repeat(30), repeat(10), repeat(1)],
}


@pytest.mark.parametrize("corruptions", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_domain_distance_of_real_digits_grows_with_corruption(
    corruptions: list[Callable[[Tensor, Tensor], Tensor]],
) -> None:
    reals, tests = Digits(split="train"), Digits(split="test")
    extractor = Domain()
    extractor.bind("digits", reals)
    images, _ = reals.read(torch.arange(len(reals)))
    real_features = extractor(images)["pre128"]
    test_images, labels = tests.read(torch.arange(len(tests)))

    def unchanged(images: Tensor, labels: Tensor) -> Tensor:
        return images

    values = [
        scores(FIDDomain(), real_features, extractor(corrupt(test_images, labels))["pre128"])["fid-domain"]
        for corrupt in (unchanged, *corruptions)
    ]
    assert all(after > 1.1 * before for before, after in itertools.pairwise(values)), values
