"""The pixels extractor, diversity and sliced Wasserstein distance."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import wasserstein_distance
from scoring import scores
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets.digits import Digits
from ganzoo_plugins.evaluators.diversity import Diversity, mean_similarity
from ganzoo_plugins.evaluators.sliced_wasserstein import SlicedWasserstein, quantiles
from ganzoo_plugins.extractors.pixels import Pixels


def digits(split: str, count: int) -> Tensor:
    """float32 (count, 1, 16, 16) in [0, 1]."""
    images, _ = Digits(split=split).read(torch.arange(count))
    return Pixels()(images)["pixels"]


def test_pixels_are_the_images_in_zero_to_one() -> None:
    extractor = Pixels()
    extractor.bind("digits", Digits())
    assert extractor.layers == {"pixels": 256}
    assert extractor.digest == Pixels().digest
    assert extractor.preprocessing == "none"
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    features = extractor(images)["pixels"]
    assert (features.dtype, features.shape) == (torch.float32, images.shape)
    assert features.flatten().tolist() == pytest.approx([0, 0.2, 1])
    with pytest.raises(ganzoo.GanzooError, match=r"takes uint8 images .N, C, H, W., not torch.float32"):
        extractor(images.float())


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 28, 28), (3, 100, 80)])
def test_equal_images_have_similarity_one(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert mean_similarity(image.expand(20, *shape)) == pytest.approx(1, abs=1e-6)


def test_similarity_falls_from_copies_to_digits_to_noise() -> None:
    reals = digits("train", 400)
    found = {
        "one": scores(Diversity(), reals, reals[:1].repeat(200, 1, 1, 1))["ms-ssim"],
        "three": scores(Diversity(), reals, reals[:3].repeat(67, 1, 1, 1))["ms-ssim"],
        "digits": scores(Diversity(), reals, digits("test", 200))["ms-ssim"],
        "noise": scores(Diversity(), reals, torch.rand(200, 1, 16, 16))["ms-ssim"],
    }
    assert found["one"] == pytest.approx(1, abs=1e-6)
    assert 1 > found["three"] > 1.3 * found["digits"] > found["noise"], found


def test_the_excess_is_relative_to_the_reals() -> None:
    reals = digits("train", 400)
    new, few = (scores(Diversity(), reals, fakes) for fakes in (digits("test", 200), reals[:4].repeat(50, 1, 1, 1)))
    assert abs(new["ms-ssim-excess"]) < 0.05
    assert few["ms-ssim-excess"] > 0.05
    assert few["ms-ssim"] - few["ms-ssim-excess"] == pytest.approx(mean_similarity(reals))


def test_at_most_the_given_number_of_pairs_is_used() -> None:
    reals = digits("train", 300)
    evaluator = Diversity(pairs=60)
    scores(evaluator, reals, reals)
    assert (len(evaluator.reals.rows()), evaluator.fakes.seen) == (120, 300)


def test_sliced_distance_of_the_same_set_is_zero() -> None:
    reals = digits("train", 150)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    # 0 but for rounding: a matrix product may round a row differently at another place in the batch
    assert scores(SlicedWasserstein(), reals, reals[order]) == {"sliced-wasserstein": pytest.approx(0, abs=1e-12)}


def test_sliced_distance_of_a_constant_difference() -> None:
    reals = digits("train", 150)
    difference = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = scores(SlicedWasserstein(directions=4000), reals, reals + difference)["sliced-wasserstein"]
    assert found == pytest.approx(float(difference.norm()) / math.sqrt(256), rel=0.03)


def test_sliced_distance_in_one_dimension_is_the_wasserstein_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    reals, fakes = (torch.rand(count, 1, 1, 1, generator=generator) for count in (40, 120))
    found = scores(SlicedWasserstein(directions=3), reals, fakes)["sliced-wasserstein"]
    ordered = reals.flatten().sort().values.repeat_interleave(3), fakes.flatten().sort().values
    expected = (ordered[0] - ordered[1]).square().mean().sqrt()
    assert found == pytest.approx(float(expected), rel=1e-6)
    assert found >= wasserstein_distance(reals.flatten().numpy(), fakes.flatten().numpy())  # W2 >= W1


def test_as_many_quantiles_as_values_are_the_values() -> None:
    ordered = torch.arange(7.0).unsqueeze(1)
    assert torch.equal(quantiles(ordered, 7), ordered)
    assert quantiles(ordered, 14).flatten().tolist() == [value for value in range(7) for _ in range(2)]
    assert quantiles(torch.tensor([[0.0], [1.0]]), 5).flatten().tolist() == [0, 0, 1, 1, 1]


def test_sliced_distance_grows_with_noise_and_missing_classes() -> None:
    reals, tests = digits("train", 800), digits("test", 299)
    _, labels = Digits(split="test").read(torch.arange(299))
    generator = torch.Generator().manual_seed(0)
    damaged = [tests + 0.1 * step * torch.randn(tests.shape, generator=generator) for step in (0, 1, 2, 4)]
    values = [scores(SlicedWasserstein(), reals, fakes)["sliced-wasserstein"] for fakes in damaged]
    assert values == sorted(values)
    dropped = scores(SlicedWasserstein(), reals, tests[labels >= 5])["sliced-wasserstein"]
    assert dropped > 1.3 * values[0]
