"""Keras layers and optimisers against results that are computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ganzoo_plugins.layers.keras import BatchNorm, SameConv2d, SameConvTranspose2d, flatten, mirror, unflatten
from ganzoo_plugins.optimizers.keras import KerasAdam, KerasRMSprop


@pytest.mark.parametrize(
    ("size", "stride", "centres"),
    [
        (8, 2, [1, 3, 5, 7]),  # even: 1 before, 2 after
        (7, 2, [0, 2, 4, 6]),  # odd: 2 and 2
        (6, 1, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_same_padding_samples_where_tensorflow_does(size: int, stride: int, centres: list[int]) -> None:
    layer = SameConv2d(1, 1, 5, stride=stride)
    layer.weight.data.zero_()[0, 0, 2, 2] = 1
    image = torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size)
    assert torch.equal(mirror(layer(mirror(image)))[0, 0], image[0, 0][centres][:, centres])


@pytest.mark.parametrize(("size", "stride"), [((4, 4), 2), ((7, 5), 2), ((4, 6), 1)])
def test_transposed_convolution_is_the_transpose(size: tuple[int, int], stride: int) -> None:
    """<conv(x), y> = <x, transposed(y)> with the same kernel, for the convolution that halves the larger image."""
    up, down = SameConvTranspose2d(3, 2, 5, stride=stride, bias=False), SameConv2d(2, 3, 5, stride=stride, bias=False)
    down.weight.data = up.weight.data
    small, large = torch.randn(2, 3, *size), torch.randn(2, 2, *(side * stride for side in size))
    assert up(small).shape == large.shape
    assert torch.allclose((down(large) * small).sum(), (large * up(small)).sum(), rtol=1e-4, atol=1e-3)


def test_flatten_and_unflatten_keep_channels_fastest() -> None:
    images = torch.arange(24.0).view(1, 2, 3, 4)
    flat = flatten(images)
    assert flat[0, :4].tolist() == [0, 12, 1, 13]
    assert torch.equal(unflatten(flat, 3, 4), images)


def test_an_even_kernel_needs_a_stride() -> None:
    assert SameConv2d(1, 1, 4, stride=2)(torch.zeros(1, 1, 6, 6)).shape == (1, 1, 3, 3)
    assert SameConvTranspose2d(1, 1, 4, stride=2)(torch.zeros(1, 1, 3, 3)).shape == (1, 1, 6, 6)
    with pytest.raises(ValueError, match="take an odd one"):
        SameConv2d(1, 1, 4)(torch.zeros(1, 1, 6, 6))


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 5)])
@pytest.mark.parametrize("rule", ["population", "corrected"])
def test_moving_statistics(shape: tuple[int, ...], rule: str) -> None:
    layer = BatchNorm(3, momentum=0.8, moving_variance=rule)
    values = torch.randn(shape) * 2 + 1
    normalised = layer(values)
    axes = [axis for axis in range(len(shape)) if axis != 1]
    mean, variance = values.mean(axes), values.var(axes, unbiased=False)
    count = values.numel() / 3
    moved = variance * (count / (count - 1) if rule == "corrected" else 1)
    expected = (values - mean.view(-1, *[1] * (len(shape) - 2))) / (variance + 1e-3).sqrt().view(
        -1, *[1] * (len(shape) - 2)
    )
    assert torch.allclose(normalised, expected, atol=1e-5)
    assert torch.allclose(layer.running_mean, 0.2 * mean, atol=1e-6)
    assert torch.allclose(layer.running_var, 0.8 + 0.2 * moved, atol=1e-6)
    moving = {name: value.clone() for name, value in layer.named_buffers()}
    layer.eval()(values)
    assert all(torch.equal(value, moving[name]) for name, value in layer.named_buffers())


@pytest.mark.parametrize("rule", ["population", "corrected"])
def test_a_batch_of_one_leaves_finite_statistics(rule: str) -> None:
    layer = BatchNorm(2, momentum=0.9, moving_variance=rule)
    assert torch.allclose(layer(torch.tensor([[3.0, 5.0]])), torch.zeros(1, 2), atol=1e-4)
    assert torch.allclose(layer.running_mean, torch.tensor([0.3, 0.5]))
    assert torch.allclose(layer.running_var, torch.tensor([0.9, 0.9]))


@pytest.mark.parametrize("rule", ["population", "corrected"])
def test_batch_norm_in_bfloat16_keeps_float32_statistics(rule: str) -> None:
    layer = BatchNorm(3, momentum=0.9, moving_variance=rule)
    images = torch.randn(4, 3, 6, 6).to(memory_format=torch.channels_last).bfloat16()
    assert layer(images).dtype == torch.bfloat16
    assert layer.running_var.dtype == torch.float32
    assert torch.allclose(layer.running_mean, 0.1 * images.float().mean((0, 2, 3)), atol=1e-3)


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def step(optimizer: torch.optim.Optimizer, target: nn.Parameter, gradient: Tensor) -> None:
    target.grad = gradient.clone()
    optimizer.step()


def test_adam_adds_eps_to_the_uncorrected_root() -> None:
    gradients = [torch.tensor([1e-6, -0.5, 2.0]), torch.tensor([3e-7, 0.1, 0.0])]
    weight = parameter(1.0, 2.0, 3.0)
    optimizer = KerasAdam(lr=0.01, beta1=0.9, beta2=0.99, eps=1e-4).build([weight])
    expected, m, v = weight.detach().double(), torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for t, gradient in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * gradient.double()
        v = 0.99 * v + 0.01 * gradient.double() ** 2
        expected = expected - 0.01 * (1 - 0.99**t) ** 0.5 / (1 - 0.9**t) * m / (v.sqrt() + 1e-4)
        step(optimizer, weight, gradient)
        assert torch.allclose(weight.double(), expected, rtol=0, atol=3e-7)


def test_rmsprop_decays_by_updates_and_clips() -> None:
    gradients = [torch.tensor([1e-5, -5.0, 2.0]), torch.tensor([3e-6, 0.1, 0.0])]
    weight = parameter(1.0, 2.0, 3.0)
    optimizer = KerasRMSprop(lr=0.01, rho=0.9, eps=1e-4, decay=0.5, clip_value=1.0).build([weight])
    expected, v = weight.detach().double(), torch.zeros(3, dtype=torch.float64)
    for t, gradient in enumerate(gradients):
        clipped = gradient.double().clamp(-1, 1)
        v = 0.9 * v + 0.1 * clipped**2
        expected = expected - 0.01 / (1 + 0.5 * t) * clipped / (v.sqrt() + 1e-4)
        step(optimizer, weight, gradient)
        assert torch.equal(weight.grad, gradient)
        assert torch.allclose(weight.double(), expected, rtol=0, atol=3e-7)


def test_networks_share_the_step_count_of_an_optimiser() -> None:
    component, one, two = KerasAdam(beta1=0.5), parameter(1.0), parameter(1.0)
    first, second = component.build([one]), component.build([two])
    for optimizer, weight in ((first, one), (second, two), (first, one)):
        step(optimizer, weight, torch.tensor([1.0]))
    assert component.iterations == 3
    alone = parameter(1.0)
    step(KerasAdam(beta1=0.5).build([alone]), alone, torch.tensor([1.0]))
    assert not torch.equal(two, alone)  # the first update of `two` was the second of the component


@pytest.mark.parametrize("component", [KerasAdam(), KerasRMSprop()])
def test_state_exists_before_the_first_step_and_the_rate_can_be_written(component: KerasAdam) -> None:
    weight = parameter(1.0, 2.0)
    optimizer = component.build([weight])
    assert optimizer.state[weight]
    assert all(not value.any() and value.shape == weight.shape for value in optimizer.state[weight].values())
    optimizer.param_groups[0]["lr"].fill_(0.0)
    step(optimizer, weight, torch.ones(2))
    assert weight.tolist() == [1.0, 2.0]
    assert component.learning_rate(10**6) == 1e-3


def test_parameters_without_gradients_do_not_change() -> None:
    moved, still = parameter(1.0), parameter(1.0)
    optimizer = KerasRMSprop().build([moved, still])
    step(optimizer, moved, torch.ones(1))
    assert moved.item() != 1
    assert still.item() == 1
