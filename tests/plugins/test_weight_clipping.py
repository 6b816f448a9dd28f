"""Weight clipping and the learning rate of adam and rmsprop, and the rmsprop part against torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from optimizer_steps import minimise, recorded_step
from torch import nn

import ganzoo
from ganzoo.contract.options import resolve
from ganzoo_plugins.optimizers.adam import Adam
from ganzoo_plugins.optimizers.rmsprop import RMSprop

PARTS = [Adam, RMSprop]


@pytest.mark.parametrize("part", PARTS)
def test_every_parameter_is_clamped_after_every_step(part: Any) -> None:
    weights, optimizer = minimise(part(lr=1e-2, clip=0.05).build, steps=1)
    assert max(weight.abs().max() for weight in weights) == pytest.approx(0.05)
    for parameter in optimizer.param_groups[0]["params"]:
        with torch.no_grad():
            parameter.fill_(9.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert all(torch.equal(p, torch.full_like(p, 0.05)) for p in optimizer.param_groups[0]["params"])


@pytest.mark.parametrize("part", PARTS)
def test_weights_within_the_limit_do_not_change(part: Any) -> None:
    loose, _ = minimise(part(lr=1e-3, clip=100.0).build)
    without, _ = minimise(part(lr=1e-3).build)
    assert all(torch.equal(a, b) for a, b in zip(loose, without, strict=True))


@pytest.mark.parametrize("part", PARTS)
def test_clipping_is_that_of_wgan(part: Any) -> None:
    """Algorithm 1: after each update w <- clip(w, -c, c)."""

    class Clipped(torch.optim.Optimizer):
        def __init__(self, parameters: list[nn.Parameter]) -> None:
            self.inner = part(lr=1e-2).build(parameters)
            super().__init__(self.inner.param_groups[0]["params"], {})

        def step(self) -> None:  # type: ignore[override]
            self.inner.step()
            for parameter in self.param_groups[0]["params"]:
                parameter.data.clamp_(-0.2, 0.2)

    ours, _ = minimise(part(lr=1e-2, clip=0.2).build)
    theirs, _ = minimise(Clipped)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("options", [{"lr": 1e-2}, {"lr": 1e-3, "alpha": 0.9, "eps": 1e-3}])
def test_rmsprop_is_that_of_torch(options: dict[str, float]) -> None:
    ours, optimizer = minimise(RMSprop(**options).build)
    theirs, _ = minimise(lambda parameters: torch.optim.RMSprop(parameters, foreach=False, **options))
    torch.testing.assert_close(ours, theirs)
    for state in optimizer.state.values():
        assert set(state) == {"step", "square_avg"}
        assert all(isinstance(value, torch.Tensor) for value in state.values())


@pytest.mark.parametrize("part", PARTS)
def test_the_learning_rate_is_read_at_every_step(part: Any) -> None:
    def build(parameters: Any) -> torch.optim.Optimizer:
        optimizer = part(lr=1.0).build(parameters)
        optimizer.param_groups[0]["lr"].fill_(0.0)
        return optimizer

    still, _ = minimise(build, steps=3)
    untouched, _ = minimise(build, steps=0)
    assert all(torch.equal(a, b) for a, b in zip(still, untouched, strict=True))


def test_rmsprop_has_the_defaults_of_wgan() -> None:
    part = RMSprop()
    (group,) = part.build([nn.Parameter(torch.zeros(2))]).param_groups
    assert group["lr"].item() == pytest.approx(5e-5)
    assert (group["alpha"], group["eps"], group["momentum"], group["centered"]) == (0.99, 1e-8, 0, False)
    assert [part.learning_rate(images) for images in (0, 10**9)] == [5e-5, 5e-5]


def test_the_learning_rate_of_adam_can_fall_linearly_to_zero() -> None:
    falling = Adam(lr=2e-4, decay_images=1000)
    assert [falling.learning_rate(images) for images in (0, 250, 1000, 2000)] == pytest.approx([2e-4, 1.5e-4, 0, 0])


def test_the_linear_decay_of_adam_follows_the_length_of_the_run() -> None:
    published, fixed = Adam(lr=2e-4, decay="linear"), Adam(lr=2e-4, decay_images=16_000_000)
    assert published.learning_rate(10**6) == 2e-4  # no run yet
    published.set_length(16_000_000)
    steps = range(0, 16_000_320, 320 * 997)
    assert [published.learning_rate(images) for images in steps] == [fixed.learning_rate(images) for images in steps]
    published.set_length(32_000_000)
    assert published.learning_rate(16_000_000) == 1e-4
    fixed.set_length(32_000_000)
    assert fixed.learning_rate(16_000_000) == 0  # told otherwise


@pytest.mark.parametrize(
    ("part", "given"),
    [(Adam, {"clip": "-1"}), (Adam, {"decay_images": "-1"}), (RMSprop, {"clip": "-1"}), (RMSprop, {"alpha": "1"})],
)
def test_options_are_bounded(part: Any, given: dict[str, str]) -> None:
    with pytest.raises(ganzoo.UsageError):
        resolve(part, given, "optimizer")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("part", PARTS)
def test_a_recorded_step_clips_and_follows_the_learning_rate(part: Any) -> None:
    parameter = nn.Parameter(torch.full((8,), 0.09, device="cuda"))
    optimizer = part(lr=1e-3, clip=0.1).build([parameter])
    parameter.grad = -torch.ones_like(parameter)
    graph = recorded_step(optimizer)
    optimizer.param_groups[0]["lr"].fill_(0.0)
    before = parameter.detach().clone()
    graph.replay()
    assert torch.equal(parameter, before)
    optimizer.param_groups[0]["lr"].fill_(1.0)
    graph.replay()
    torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, 0.1))
