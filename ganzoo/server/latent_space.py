"""Movements in the latent space of a generator: its strongest directions, and walks between latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.engine.sampler import balanced_labels, draw_latents
from ganzoo.results.latents import slerp

#: directions that are found, at most
DIRECTIONS = 10
#: latents from which they are computed, at least, and for each number of a latent
_LATENTS, _LATENTS_PER_DIMENSION = 1024, 4
_BATCH = 128
#: features in which they are computed, at most; of more, evenly spread ones are used
_FEATURES = 1 << 15


@dataclass(frozen=True)
class Directions:
    """The strongest directions of a latent space, the strongest first."""

    #: (K, Z): a step of length 1 along row k is one standard deviation of principal component k
    vectors: Tensor
    #: share of the variance of the first features that each explains, 0 to 1
    shares: tuple[float, ...]


def strongest_directions(
    network: nn.Module, architecture: Architecture, classes: int, device: torch.device
) -> Directions:
    """Principal components of the generator's first features, mapped back to latents.

    Härkönen et al. 2020, "GANSpace" (arXiv:2004.02546): PCA of the activations of an early layer, and a linear
    regression from its components to the latents. Here the features are what the second layer with weights gets, and
    the regression is of the features on the latents, which are fewer. Where the first layer is linear and nothing
    follows it, both are the same.
    """
    dimensions = architecture.latents(1, torch.Generator().manual_seed(0)).shape[1]
    count = max(_LATENTS, _LATENTS_PER_DIMENSION * dimensions)
    latents = draw_latents(architecture, count, device, 0)
    features = _first_features(network, latents, balanced_labels(count, classes, device))
    latents, features = (values.float().cpu() - values.float().cpu().mean(dim=0) for values in (latents, features))
    covariance = latents.T @ latents / count + 1e-6 * torch.eye(dimensions)
    weights = torch.linalg.solve(covariance, latents.T @ features / count)  # (Z, D)
    # a square root of the covariance, so that all unit steps are equally likely
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    strengths, components = torch.linalg.eigh(root @ weights @ weights.T @ root)
    order = strengths.argsort(descending=True)[:DIRECTIONS]
    found = (root @ components[:, order]).T
    signs = found.gather(1, found.abs().argmax(dim=1, keepdim=True)).sign()  # eigenvectors have no sign of their own
    total = features.square().sum() / count
    shares = (strengths[order].clamp(min=0) / total.clamp(min=1e-12)).tolist()
    return Directions((found * signs).to(device), tuple(shares))


class _Found(Exception):
    """The features of a batch; ends its pass through the network."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features


def _first_features(network: nn.Module, latents: Tensor, labels: Tensor) -> Tensor:
    """(N, D): what the second layer with weights gets; the images themselves where no layer is found."""
    found = []
    for rows, classes in zip(torch.split(latents, _BATCH), torch.split(labels, _BATCH), strict=True):
        with torch.no_grad(), _stopped_at_the_second_layer(network, rows.shape):
            try:
                features = network(rows, classes)
            except _Found as reached:
                features = reached.features
        found.append(features.flatten(1)[:, :: -(-features[0].numel() // _FEATURES)])
    return torch.cat(found)


@contextmanager
def _stopped_at_the_second_layer(network: nn.Module, shape: torch.Size) -> Iterator[None]:
    """Raise _Found in the first module with weight matrices or kernels that gets something else than the latents."""

    def stop(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        given = inputs[0] if inputs else None
        if isinstance(given, Tensor) and given.is_floating_point() and given.shape != shape and len(given) == shape[0]:
            raise _Found(given)

    hooks = [
        module.register_forward_pre_hook(stop)
        for module in network.modules()
        if module is not network and any(p.ndim > 1 for p in module.parameters(recurse=False))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def walk(points: Tensor, along: float, across: float = 0.0) -> Tensor:
    """The latent (1, Z) at a place between `points` (n, Z); `along` and `across` are in [0, 1].

    Two or three points are a path: spherical interpolation from each to the next. Four are the corners of a square, row
    by row: `along` its rows, and `across` from the upper to the lower one. One point is returned as it is.
    """
    if len(points) == 4:
        rows = slerp(points[[0, 2]], points[[1, 3]], points.new_full((2,), along))
        return slerp(rows[:1], rows[1:], points.new_full((1,), across))
    if len(points) == 1:
        return points
    place = along * (len(points) - 1)
    start = min(int(place), len(points) - 2)
    return slerp(points[start : start + 1], points[start + 1 : start + 2], points.new_full((1,), place - start))


def moved(latents: Tensor, directions: Directions, moves: Sequence[tuple[int, float]]) -> Tensor:
    """Latents (N, Z) after steps along directions: pairs of a direction's index and a number of standard deviations."""
    for index, amount in moves:
        latents = latents + amount * directions.vectors[index]
    return latents
