"""Helpers of the tests of optimisers: a small regression, and a step recorded as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def minimise(
    optimizer_of: Callable[[Any], torch.optim.Optimizer], steps: int = 20
) -> tuple[list[Tensor], torch.optim.Optimizer]:
    """Train a small regression; returns its parameters after `steps` steps, and the optimiser."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = optimizer_of(network.parameters())
    inputs = torch.randn(32, 4)
    for _ in range(steps):
        optimizer.zero_grad()
        (network(inputs) - inputs.prod(dim=1, keepdim=True)).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in network.parameters()], optimizer


def recorded_step(optimizer: torch.optim.Optimizer) -> torch.cuda.CUDAGraph:
    """A step of an optimiser, recorded as a CUDA graph after one eager step; recording changes no parameter."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        optimizer.step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    return graph
