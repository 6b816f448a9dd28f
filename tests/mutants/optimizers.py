"""Faulty optimisers."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

import ganzoo


def adam(parameters: Iterable[nn.Parameter], **options: Any) -> torch.optim.Optimizer:
    parameters = list(parameters)
    device = parameters[0].device
    lr = torch.tensor(1e-3, device=device)
    return torch.optim.Adam(parameters, lr=lr, foreach=False, capturable=device.type == "cuda", **options)


class Good(ganzoo.Optimizer):
    """Adam."""

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return adam(parameters)

    def learning_rate(self, images_seen: int) -> float:
        return 1e-3


class Stranger(Good):
    """Adds a parameter of its own."""

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = adam(parameters)
        held = optimizer.param_groups[0]["params"]
        held.append(nn.Parameter(torch.zeros(1, device=held[0].device)))
        return optimizer


class Signs(torch.optim.Optimizer):
    """Steps of a constant size against the sign of the gradient."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        parameters = list(parameters)
        self.lr = torch.tensor(1e-3, device=parameters[0].device)
        super().__init__(parameters, {"lr": self.lr})

    def length(self) -> Tensor | float:
        return self.lr

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        length = self.length()
        for parameter in self.param_groups[0]["params"]:
            parameter -= length * parameter.grad.sign()


class Deaf(Good):
    """Steps of a fixed size, whatever the learning rate is."""

    class _Deaf(Signs):
        def length(self) -> float:
            return 1e-2

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return self._Deaf(parameters)


class Backing(Good):
    """A learning rate that becomes negative."""

    def learning_rate(self, images_seen: int) -> float:
        return 1e-3 * (1 - images_seen / 1e6)


class Uphill(Good):
    """Steps with the wrong sign."""

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return adam(parameters, maximize=True)


class Elsewhere(Good):
    """Keeps state that belongs to no parameter."""

    class _Elsewhere(Signs):
        def step(self, closure: Any = None) -> None:
            self.state["steps"]["count"] = torch.ones(())
            super().step()

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return self._Elsewhere(parameters)


class Shared(Good):
    """One optimiser for both networks, whose step updates both."""

    optimizer: torch.optim.Optimizer | None = None

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = adam(parameters)
        else:
            lr = self.optimizer.param_groups[0]["lr"]
            self.optimizer.add_param_group({"params": list(parameters), "lr": lr.clone()})
        return self.optimizer


class Counting(Good):
    """Steps that shrink with a counter outside the state."""

    class _Counting(Signs):
        count = 0

        def length(self) -> Tensor | float:
            self.count += 1
            return self.lr / self.count**0.5

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return self._Counting(parameters)


class HostNoise(Good):
    """A step size that the host draws in every step; a recorded step repeats the same one."""

    class _HostNoise(Signs):
        def length(self) -> Tensor | float:
            return self.lr * (1 + 0.3 * random.random())

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return self._HostNoise(parameters)


MUTANTS = {
    "holds_the_parameters_it_was_given": Stranger,
    "learning_rate_is_a_tensor_it_follows": Deaf,
    "learning_rate_is_always_finite": Backing,
    "goes_downhill": Uphill,
    "state_is_tensors_by_parameter": Elsewhere,
    "serves_two_networks": Shared,
    "resumes_bit_for_bit": Counting,
    "captured_is_eager": HostNoise,
}
