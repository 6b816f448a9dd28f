"""Checks of an optimiser."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganzoo.testing.kit import ExaminedPart, require
from ganzoo.testing.small_game import captured_is_eager, resumes_bit_for_bit


def _parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (4,), ())]


def _step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], target: float = 2.0) -> None:
    """One step on the loss 0.5 * (parameter - target)^2, whose minimum is where all parameters equal `target`."""
    for parameter in parameters:
        parameter.grad = (parameter.detach() - target).clone()
    optimizer.step()


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Write the learning rate in place, as a training does before each step."""
    for group in optimizer.param_groups:
        group["lr"].fill_(rate)


def _copies(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def holds_the_parameters_it_was_given(part: ExaminedPart) -> None:
    """`build` returns a torch optimiser of exactly the given parameters, in their order, from any iterable."""
    parameters = _parameters()
    optimizer = part.build().build(iter(parameters))
    require(isinstance(optimizer, torch.optim.Optimizer), f"build returns a {type(optimizer).__name__}.")
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    require(list(map(id, held)) == list(map(id, parameters)), f"It holds {len(held)} of {len(parameters)} parameters.")


def learning_rate_is_a_tensor_it_follows(part: ExaminedPart) -> None:
    """Its learning rate is a tensor, and a value written in place sets the size of the next step."""
    distances = []
    for factor in (1.0, 3.0):
        component, parameters = part.build(), _parameters()
        optimizer, before = component.build(parameters), _copies(parameters)
        for group in optimizer.param_groups:
            require(
                isinstance(group["lr"], Tensor), f"The learning rate is a {type(group['lr']).__name__}, not a tensor."
            )
        _set_rate(optimizer, factor * max(component.learning_rate(0), 1e-4))
        _step(optimizer, parameters)
        distances.append(sum(float((p.detach() - b).abs().sum()) for p, b in zip(parameters, before, strict=True)))
    require(distances[1] > 1.5 * distances[0], "A learning rate written in place does not change the next step.")


def learning_rate_is_always_finite(part: ExaminedPart) -> None:
    """`learning_rate` is finite and not negative for any number of images seen."""
    component = part.build()
    for images in (0, 1, 1000, 10**6, 10**9):
        rate = component.learning_rate(images)
        valid = isinstance(rate, int | float) and math.isfinite(rate) and rate >= 0
        require(valid, f"After {images} images the learning rate is {rate!r}.")


def goes_downhill(part: ExaminedPart) -> None:
    """Steps move every parameter, and lower a quadratic loss."""
    component, parameters = part.build(), _parameters()
    optimizer, start = component.build(parameters), _copies(parameters)
    _set_rate(optimizer, 1e-2)
    for _ in range(20):
        _step(optimizer, parameters)
    stuck = sum(torch.equal(p.detach(), s) for p, s in zip(parameters, start, strict=True))
    require(not stuck, f"{stuck} of {len(parameters)} parameters do not move.")
    before, after = (sum(float((p - 2.0).square().sum()) for p in side) for side in (start, _copies(parameters)))
    require(after < before, f"20 steps change a quadratic loss from {before:.4g} to {after:.4g}.")


def state_is_tensors_by_parameter(part: ExaminedPart) -> None:
    """All its state is tensors in `state[parameter]`: a checkpoint stores them under the parameter's name."""
    component, parameters = part.build(), _parameters()
    optimizer = component.build(parameters)
    _step(optimizer, parameters)
    unknown = [key for key in optimizer.state if not any(key is parameter for parameter in parameters)]
    require(not unknown, f"It keeps state under {unknown[:1]}, which is not one of its parameters.")
    for parameter in parameters:
        for name, value in optimizer.state[parameter].items():
            require(isinstance(value, Tensor), f"Its state {name!r} is a {type(value).__name__}, not a tensor.")


def serves_two_networks(part: ExaminedPart) -> None:
    """Built twice, for generator and discriminator, a step of one does not change the parameters of the other."""
    component = part.build()
    mine, others = _parameters(), _parameters()
    first, second = component.build(mine), component.build(others)
    _step(second, others)
    kept = _copies(others)
    _step(first, mine)
    alike = all(torch.equal(p, k) for p, k in zip(others, kept, strict=True))
    require(alike, "A step of one network's optimiser changes the parameters of the other network.")


CHECKS = (
    holds_the_parameters_it_was_given,
    learning_rate_is_a_tensor_it_follows,
    learning_rate_is_always_finite,
    goes_downhill,
    state_is_tensors_by_parameter,
    serves_two_networks,
    resumes_bit_for_bit,
    captured_is_eager,
)
