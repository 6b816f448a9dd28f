"""Dropout with a fast mask: the share of kept elements, the expectation, and every memory layout."""

import pytest
import torch
from torch import nn

from ganzoo_plugins.layers.dropout import Dropout, LeakyReLUDropout, keep_mask


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_the_share_and_the_scale_are_those_of_bernoulli(p):
    torch.manual_seed(0)
    shares = []
    for _ in range(40):
        dropped = Dropout(p)(torch.ones(100_000))
        assert len(dropped.unique()) == 2  # nothing but zeros and one scale
        assert abs(float(dropped.max()) * (1 - p) - 1) < 2**-15 / (1 - p)
        shares.append(float((dropped != 0).float().mean()))
    shares = torch.tensor(shares, dtype=torch.float64)
    expected = (p * (1 - p) / 100_000) ** 0.5  # of the share of one mask
    assert abs(shares.mean() - (1 - p)) < 4 * expected / 40**0.5 + 2**-17
    assert 0.6 * expected < shares.std() < 1.5 * expected


def test_neighbours_are_independent():
    torch.manual_seed(1)
    kept = (keep_mask(torch.empty(400_000), 0.7) != 0).double() - 0.7
    for lag in (1, 2, 3, 4, 8, 64):
        correlation = (kept[:-lag] * kept[lag:]).mean() / (0.7 * 0.3)
        assert abs(correlation) < 4 / 400_000**0.5, lag


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_layout_and_dtype(layout, dtype):
    values = torch.randn(3, 5, 7, 2).to(dtype).contiguous(memory_format=layout)
    dropped = Dropout(0.4)(values)
    assert dropped.dtype == dtype
    assert dropped.is_contiguous(memory_format=layout)
    stays = dropped != 0
    assert torch.allclose(dropped[stays], values[stays] / 0.6, rtol=2**-7)
    assert 0 < stays.sum() < stays.numel()


def test_memory_with_gaps():
    values = torch.ones(6, 6)[::2, ::3].requires_grad_()
    dropped = Dropout(0.5)(values)
    (gradient,) = torch.autograd.grad(dropped.sum(), values)
    assert torch.equal(gradient, dropped)  # of ones, both are the mask


def test_it_follows_torch_seed_and_mode():
    layer, values = Dropout(0.5), torch.randn(1000)
    torch.manual_seed(3)
    first = layer(values)
    second = layer(values)
    torch.manual_seed(3)
    assert torch.equal(layer(values), first)
    assert not torch.equal(first, second)
    assert layer.eval()(values) is values or torch.equal(layer(values), values)
    assert torch.equal(Dropout(0.0)(values), values)


def test_gradients_of_gradients():
    torch.manual_seed(0)
    mask = keep_mask(torch.empty(8, dtype=torch.float64), 0.5)
    torch.autograd.gradgradcheck(lambda x: (x * mask).square(), torch.randn(8, dtype=torch.float64, requires_grad=True))


def test_leaky_relu_dropout_equals_both_in_sequence():
    values = torch.randn(50, 40, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(50, 40, dtype=torch.float64)
    found = {}
    for name, layer in {
        "one": LeakyReLUDropout(0.2, 0.3),
        "two": nn.Sequential(nn.LeakyReLU(0.2), Dropout(0.3)),
    }.items():
        torch.manual_seed(0)
        given = values * 1
        answer = layer(given)
        (gradient,) = torch.autograd.grad((answer.tanh() * weights).sum(), values, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), values)
        found[name] = answer, gradient, second
    for one, two in zip(*found.values(), strict=True):
        assert torch.allclose(one, two, rtol=1e-12, atol=0)
    plain = LeakyReLUDropout(0.2, 0.3).eval()(values * 1)
    assert torch.equal(plain, nn.functional.leaky_relu(values, 0.2))


def test_nearly_all_dropped_and_no_elements():
    assert Dropout(1 - 1e-9)(torch.ones(50)).isfinite().all()
    assert Dropout(0.5)(torch.ones(0)).shape == (0,)


@pytest.mark.parametrize("p", [1e-9, 1e-6, 7e-6])
def test_hardly_anything_is_dropped(p):
    torch.manual_seed(0)
    assert (Dropout(p)(torch.ones(1000)) != 0).float().mean() > 0.99


def test_everything_is_dropped():
    assert not Dropout(1.0)(torch.ones(1000)).any()


def test_other_devices_use_pytorchs_dropout():
    values = torch.ones(3, 4, device="meta")
    assert Dropout(0.5)(values).device.type == LeakyReLUDropout(0.2, 0.5)(values).device.type == "meta"
