"""Latents and fakes as a function of (seed, index): whatever the size of the batches they are drawn in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.images import to_uint8
from ganzoo.engine.seeds import generator

#: latents are drawn in blocks of this many, each from a generator of its own
_BLOCK = 64


def draw_latents(architecture: Architecture, count: int, device: torch.device, seed: int) -> Tensor:
    """(count, Z) latents on `device`; the first ones are the same for every `count`, and all are for every device."""
    blocks = range(0, count, _BLOCK)
    drawn = [architecture.latents(_BLOCK, generator("cpu", seed, "fixed latents", block)) for block in blocks]
    return torch.cat(drawn)[:count].to(device)


def balanced_labels(count: int, classes: int, device: torch.device) -> Tensor:
    """(count,) int64: 0, 1, 2, ... and over again."""
    return torch.arange(count, device=device) % classes


@torch.no_grad()
def draw(
    network: nn.Module, architecture: Architecture, latents: Tensor, labels: Tensor, batch_size: int = 250
) -> Iterator[Tensor]:
    """uint8 fakes (n, C, H, W) of `latents` and `labels` in inference mode, a batch at a time, on the latents' device.

    The network's own mode is put back afterwards.
    """
    training = network.training
    network.eval()
    try:
        for start in range(0, len(latents), batch_size):
            part = slice(start, start + batch_size)
            yield to_uint8(network(latents[part], labels[part]), architecture.value_range)
    finally:
        network.train(training)


def draw_all(network: nn.Module, architecture: Architecture, latents: Tensor, labels: Tensor | Sequence[int]) -> Tensor:
    """All fakes of `latents` in one uint8 tensor on the CPU."""
    labels = torch.as_tensor(labels, device=latents.device)
    return torch.cat([images.cpu() for images in draw(network, architecture, latents, labels)])
