"""Convolutions by the Fourier transform are the convolutions that PyTorch computes."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganzoo import Choice
from ganzoo.contract.choice import Amount
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.training.train import resume, start
from ganzoo_plugins.layers import fourier
from ganzoo_plugins.layers.keras import SameConvTranspose2d, UpsampledSameConvTranspose2d

KERNELS = [(3, 3), (5, 5), (4, 6), (1, 2)]
SHAPES = [
    (stride, sides, padding, size)
    for stride, sides, padding, size in product((1, 2, 3), KERNELS, [(0, 0), (1, 2), (2, 1)], [(7, 7), (5, 8), (4, 9)])
    # the kernel is no larger than the image; and the transposed convolution leaves something of a row
    if all(n + 2 * p >= k for n, p, k in zip(size, padding, sides, strict=True))
    and (size[0] - 1) * stride + sides[0] > 2 * padding[0]
]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the Fourier transform also where it is slower."""
    monkeypatch.setattr(fourier, "_WORTH", 0)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the inputs that were transformed."""
    shapes, convolve = [], fourier._convolve

    def recorded(inputs: Tensor, *others: object) -> Tensor:
        shapes.append(tuple(inputs.shape))
        return convolve(inputs, *others)

    monkeypatch.setattr(fourier, "_convolve", recorded)
    return shapes


def normal(*shape: int) -> Tensor:
    return torch.randn(shape).requires_grad_()


def assert_same(found: Tensor, exact: Tensor, *leaves: Tensor) -> None:
    """Values, first and second gradients in float32 are within 1e-5 of float64, relative to the largest."""
    assert found.shape == exact.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    direction = torch.randn(found.shape)
    first = torch.autograd.grad(found, leaves, direction, create_graph=True)
    expected = torch.autograd.grad(exact, leaves, direction.double(), create_graph=True)
    pairs = [(found, exact), *zip(first, expected, strict=True)]
    # the first gradient of the bias is constant
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), leaves[:2])
    twice = torch.autograd.grad(sum(gradient.square().sum() for gradient in expected), leaves[:2])
    for value, wanted in [*pairs, *zip(second, twice, strict=True)]:
        assert (value - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize(("stride", "sides", "padding", "size"), SHAPES)
def test_conv2d(stride: int, sides: tuple[int, int], padding: tuple[int, int], size: tuple[int, int], always) -> None:
    images, kernel, bias = normal(3, 4, *size), normal(5, 4, *sides), normal(5)
    found = fourier.conv2d(images, kernel, bias, stride, padding)
    exact = F.conv2d(images.double(), kernel.double(), bias.double(), stride, padding)
    assert_same(found, exact, images, kernel, bias)


@pytest.mark.parametrize(("stride", "sides", "padding", "size"), SHAPES)
def test_conv_transpose2d(stride, sides, padding, size, always) -> None:
    images, kernel, bias = normal(3, 4, *size), normal(4, 5, *sides), normal(5)
    more = (stride - 1, stride // 2)
    found = fourier.conv_transpose2d(images, kernel, bias, stride, padding, more)
    exact = F.conv_transpose2d(images.double(), kernel.double(), bias.double(), stride, padding, more)
    assert_same(found, exact, images, kernel, bias)


def test_a_wrapped_around_image_fails_the_tests_above(always, monkeypatch: pytest.MonkeyPatch) -> None:
    """The period is the shortest possible: with a shorter one the tests above fail."""
    shorter = fourier._Axis.period.fget
    monkeypatch.setattr(fourier._Axis, "period", property(lambda axis: shorter(axis) - 1))
    fourier._matrices.cache_clear()
    with pytest.raises(AssertionError):
        test_conv2d(1, (5, 5), (2, 2), (7, 7), None)
    fourier._matrices.cache_clear()


def test_its_rounding_error_is_small(used: list[tuple[int, ...]]) -> None:
    """At the size of the tutorial's first convolution: 5e-7 and 3e-7 of the outputs, in the mean."""
    images, kernel = torch.randn(64, 256, 7, 7), torch.randn(256, 128, 5, 5)
    found = fourier.conv_transpose2d(images, kernel, None, 1, (2, 2), (0, 0))
    exact = F.conv_transpose2d(images.double(), kernel.double(), padding=2)
    assert used == [(64, 49, 256)]
    assert (found - exact).square().mean() <= 1e-12 * exact.square().mean()


@pytest.mark.parametrize(
    ("images", "kernel"),
    [
        (
            torch.ones(1, 256, 7, 7),
            torch.ones(128, 256, 5, 5),
        ),  # the transform of the kernel takes too long for one image
        (torch.ones(0, 256, 7, 7), torch.ones(128, 256, 5, 5)),
        (torch.ones(64, 1, 28, 28), torch.ones(64, 1, 5, 5)),  # few channels: the transforms take most of the time
        (torch.ones(64, 256, 7, 7).double(), torch.ones(128, 256, 5, 5).double()),
        (torch.ones(64, 256, 7, 7, device="meta"), torch.ones(128, 256, 5, 5, device="meta")),
    ],
    ids=["one image", "no image", "one channel", "float64", "another device"],
)
def test_pytorchs_convolution_is_used_elsewhere(images: Tensor, kernel: Tensor, used: list[tuple[int, ...]]) -> None:
    fourier.conv2d(images, kernel, None, 1, (2, 2))
    fourier.conv_transpose2d(images, kernel.transpose(0, 1), None, 1, (2, 2), (0, 0))
    assert used == []


def test_pytorchs_convolution_is_used_under_autocast(used: list[tuple[int, ...]]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            fourier.conv2d(torch.ones(64, 64, 7, 7), torch.ones(64, 64, 5, 5), None, 1, (2, 2)).dtype == torch.bfloat16
        )
    assert used == []


def test_constants_made_in_inference_mode_allow_gradients(always) -> None:
    """The constant matrices are cached: a first call in inference mode must not break later gradients."""
    fourier._matrices.cache_clear()
    images, kernel = normal(2, 3, 6, 6), normal(3, 3, 3, 3)
    with torch.inference_mode(), torch.device("meta"):
        fourier.conv2d(images, kernel, None, 1, (1, 1))
    fourier.conv2d(images, kernel, None, 1, (1, 1)).sum().backward()
    assert images.grad is not None


def test_upsampling_and_a_convolution_are_one() -> None:
    both = UpsampledSameConvTranspose2d(3, 4, 5).double()
    alone = SameConvTranspose2d(3, 4, 5).double()
    alone.load_state_dict(both.state_dict())
    torch.nn.init.normal_(alone.bias)
    both.bias.data.copy_(alone.bias)
    images = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    twice = F.interpolate(images, scale_factor=2, mode="nearest")
    assert torch.allclose(both(images), alone(twice), rtol=0, atol=1e-12)


def test_a_run_that_uses_it_resumes_bit_for_bit(used: list[tuple[int, ...]], tmp_path) -> None:
    zoo, cpu = Zoo(), torch.device("cpu")
    fields = {"batch_size": 32, "samples_every": "100 steps", "checkpoint_every": "100 steps"}
    states = []
    for out, length in ((tmp_path / "whole", "4 steps"), (tmp_path / "halves", "2 steps")):
        recipe = plan(zoo, Choice.parse("dcgan-tutorial:width=32"), Choice("digits"), None, fields | {"length": length})
        start(recipe, out, zoo, cpu, note=lambda text: None)
        if length == "2 steps":
            resume(out, zoo, length=Amount(4, "steps"), note=lambda text: None)
        found = checkpoints.load_latest(out / "checkpoints")
        assert found is not None
        states.append(found[0])
    assert used
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
