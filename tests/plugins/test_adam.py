"""The adam part against torch's own Adam and AdamW."""

import pytest
import torch
from optimizer_steps import minimise, recorded_step
from torch import nn

import ganzoo
from ganzoo.contract.options import resolve
from ganzoo_plugins.optimizers.adam import Adam

CASES = [
    {"lr": 1e-2},
    {"lr": 1e-2, "beta1": 0, "beta2": 0.9},
    {"lr": 3e-3, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3},
]


@pytest.mark.parametrize("options", CASES)
def test_equals_torch_adam(options):
    betas = float(options.get("beta1", 0.5)), options.get("beta2", 0.999)
    ours, _ = minimise(Adam(**options).build)
    theirs, _ = minimise(lambda p: torch.optim.Adam(p, options["lr"], betas, options.get("eps", 1e-8), foreach=False))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_weight_decay_is_that_of_adamw():
    ours, _ = minimise(Adam(lr=1e-2, weight_decay=0.1).build)
    theirs, _ = minimise(lambda p: torch.optim.AdamW(p, 1e-2, (0.5, 0.999), weight_decay=0.1, foreach=False))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    without, _ = minimise(Adam(lr=1e-2).build)
    assert not torch.allclose(ours[0], without[0])


def test_state_and_learning_rate_are_tensors():
    _, optimizer = minimise(Adam(lr=1e-2).build, steps=3)
    for state in optimizer.state.values():
        assert set(state) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(isinstance(value, torch.Tensor) for value in state.values())
        assert state["step"] == 3
    (group,) = optimizer.param_groups
    assert (group["lr"].dtype, group["lr"].shape) == (torch.float32, ())
    assert group["fused"]


def test_the_schedule_is_constant():
    optimizer = Adam(lr=3e-4)
    assert [optimizer.learning_rate(images) for images in (0, 1_000_000)] == [3e-4, 3e-4]


def test_two_networks_share_nothing():
    part = Adam()
    first, second = (part.build([nn.Parameter(torch.zeros(2))]) for _ in range(2))
    first.param_groups[0]["lr"].fill_(0.0)
    assert second.param_groups[0]["lr"] == pytest.approx(2e-4)
    assert not list(part.buffers())


def test_restored_state_continues_exactly():
    """The engine saves only the tensors of `state`, and copies them in place."""
    through, _ = minimise(Adam(lr=1e-2).build, steps=6)
    halfway, stopped = minimise(Adam(lr=1e-2).build, steps=3)
    saved = [{key: value.clone() for key, value in state.items()} for state in stopped.state.values()]

    def resumed(parameters):
        parameters = list(parameters)
        optimizer = Adam(lr=1e-2).build(parameters)
        for parameter, weight, state in zip(parameters, halfway, saved, strict=True):
            parameter.data.copy_(weight)
            optimizer.state[parameter] = state
        return optimizer

    continued, _ = minimise(resumed, steps=3)
    assert all(torch.equal(a, b) for a, b in zip(through, continued, strict=True))


@pytest.mark.parametrize("given", [{"lr": "-1"}, {"beta1": "1"}, {"beta2": "1.5"}, {"eps": "-1e-8"}, {"lr": "inf"}])
def test_options_are_bounded(given):
    with pytest.raises(ganzoo.UsageError):
        resolve(Adam, given, "adam")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorded_step_follows_the_learning_rate():
    parameter = nn.Parameter(torch.ones(8, device="cuda"))
    optimizer = Adam(lr=1e-2).build([parameter])
    assert optimizer.param_groups[0]["capturable"]
    parameter.grad = torch.ones_like(parameter)
    graph = recorded_step(optimizer)
    before = parameter.detach().clone()
    optimizer.param_groups[0]["lr"].fill_(0.0)
    graph.replay()
    assert torch.equal(parameter, before)
    optimizer.param_groups[0]["lr"].fill_(1e-2)
    graph.replay()
    torch.testing.assert_close(parameter.detach(), before - 1e-2)
