"""Standing statistics: the moving statistics of batch norm, recomputed from images that the trained generator draws.

The moving statistics of a training come from fakes of earlier weights, and those of an EMA belong to other weights than
its own. BigGAN recomputes them (Brock et al. 2019, arXiv:1809.11096, appendix D).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.choice import short_name
from ganzoo.contract.errors import UsageError
from ganzoo.engine import seeds
from ganzoo.engine.sampler import draw_latents
from ganzoo.results.latents import truncated
from ganzoo.results.load import TrainedGenerator

MOST_BATCHES = 10_000


def check_standing_statistics(batches: int | None) -> None:
    """Raises UsageError for a number of batches that is not allowed."""
    if batches is not None and not 1 <= batches <= MOST_BATCHES:
        raise UsageError(
            f"--standing-statistics {batches}: name a number of batches from 1 to {MOST_BATCHES}; 16 to 100 are usual."
        )


def standing_facts(trained: TrainedGenerator, batches: int | None) -> dict[str, Any]:
    """What the card of a score has beside the number of fakes; nothing without standing statistics."""
    if batches is None:
        return {}
    return {"standing_statistics": {"batches": batches, "batch_size": trained.run.recipe.batch_size}}


@torch.no_grad()
def with_standing_statistics(
    trained: TrainedGenerator, batches: int | None, seed: int, truncation: float | None = None
) -> TrainedGenerator:
    """The generator with the mean over so many batches of the mean and variance of each; None: as it is.

    A batch has as many images as one of the training, with latents from `seed`, truncated at `truncation` if it is
    given, and classes drawn uniformly. It is normalised by its own statistics, as in training; the variance is that of
    the values of the batch (divided by their number). The network is a copy, and nothing is written.

    Raises UsageError for a number of batches that is not allowed, and for a generator without batch norm.
    """
    check_standing_statistics(batches)
    if batches is None:
        return trained
    network = copy.deepcopy(trained.network)
    norms = list(_norms(network, trained.architecture.batch_statistics))
    if not norms:
        raise UsageError(
            f"--standing-statistics {batches}: the generator of {short_name(trained.run.recipe.architecture)} has no "
            "batch norm, so it has no such statistics: leave it out."
        )
    totals = {
        norm: [torch.zeros_like(_buffer(norm, name), dtype=torch.float64) for name in names] for norm, names in norms
    }

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double()  # (N, C, ...)
        axes = [axis for axis in range(values.ndim) if axis != 1]
        variance, mean = torch.var_mean(values, axes, correction=0)
        totals[norm][0] += mean
        totals[norm][1] += variance

    hooks = [norm.register_forward_pre_hook(add) for norm, _ in norms]
    for norm, _ in norms:  # these alone: other layers stay as they are in sampling
        norm.train()
    for number in range(batches):
        network(*_inputs(trained, seed, number, truncation))
    for hook in hooks:
        hook.remove()
    for norm, names in norms:
        for name, total in zip(names, totals[norm], strict=True):
            _buffer(norm, name).copy_(total / batches)
    return dataclasses.replace(trained, network=network.eval())


def _norms(network: nn.Module, names: tuple[str, str]) -> Iterator[tuple[nn.Module, tuple[str, str]]]:
    """The batch norms of a network: its modules that have these two buffers themselves."""
    for module in network.modules():
        if all(dict(module.named_buffers(recurse=False)).get(name) is not None for name in names):
            yield module, names


def _buffer(module: nn.Module, name: str) -> Tensor:
    return module.get_buffer(name)


def _inputs(trained: TrainedGenerator, seed: int, number: int, truncation: float | None) -> tuple[Tensor, Tensor]:
    """Latents (N, Z) and labels (N,) of a batch, a function of the seed and the number of the batch."""
    count, device = trained.run.recipe.batch_size, trained.device
    latents = draw_latents(trained.architecture, count, device, seeds.derive(seed, "standing statistics", number))
    if truncation is not None:
        latents = truncated(latents, truncation)
    random = seeds.generator("cpu", seed, "standing classes", number)
    labels = torch.randint(trained.images.classes, (count,), generator=random)
    return latents, labels.to(device)
