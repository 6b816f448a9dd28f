"""Sampling: latents and fakes depend on (seed, index) alone, not on the batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.images import to_uint8
from ganzoo.engine.seeds import generator

#: latents are drawn in blocks of this size, each block with its own random generator
_BLOCK = 64
#: fakes in a batch. Features of an image differ in the last digits between batches of different sizes, so images from a
#: file are scored in batches of this size too
DRAW_BATCH = 250


def draw_latents(architecture: Architecture, count: int, device: torch.device, seed: int) -> Tensor:
    """Latents (count, Z) on `device`. Each depends on its index and `seed` only, not on `count` or the device."""
    blocks = range(0, count, _BLOCK)
    drawn = [architecture.latents(_BLOCK, generator("cpu", seed, "fixed latents", block)) for block in blocks]
    return torch.cat(drawn)[:count].to(device)


def balanced_labels(count: int, classes: int, device: torch.device) -> Tensor:
    """Labels (count,) int64: 0, 1, ..., classes - 1, and again from 0."""
    return torch.arange(count, device=device) % classes


@torch.no_grad()
def draw(
    network: nn.Module, architecture: Architecture, latents: Tensor, labels: Tensor, batch_size: int = DRAW_BATCH
) -> Iterator[Tensor]:
    """Fakes, uint8 (n, C, H, W) in batches, of `latents` (N, Z) and `labels` (N,), on the latents' device.

    The network is set to inference mode, and back to its former mode afterwards.
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
    """All fakes of `latents` (N, Z), uint8 (N, C, H, W) on the CPU."""
    labels = torch.as_tensor(labels, device=latents.device)
    return torch.cat([images.cpu() for images in draw(network, architecture, latents, labels)])
