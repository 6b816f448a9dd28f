"""The fake images that a score compares with real ones: batches that depend on a seed only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.recipe import Recipe
from ganzoo.engine import seeds
from ganzoo.engine.sampler import DRAW_BATCH, balanced_labels, draw, draw_latents
from ganzoo.evaluation.ranks import BatchSequence


def subject_of(recipe: Recipe, images_seen: int) -> dict[str, Any]:
    """The description of a generator for the card: EMA ("averaged") or raw weights, images seen, training seed."""
    weights = "averaged" if recipe.ema_half_life else "raw"
    return {"weights": weights, "images_seen": images_seen, "training_seed": recipe.seed}


class FakeBatches(BatchSequence):
    """Fakes of a generator with their labels, in batches; they depend on a seed only. Classes are balanced.

    The images are uint8 (n, C, H, W) and the labels int64 (n,).
    """

    def __init__(
        self,
        network: nn.Module,
        architecture: Architecture,
        images: ImageSpec,
        count: int,
        device: torch.device,
        seed: int,
    ) -> None:
        self._network, self._architecture = network, architecture
        self._latents = draw_latents(architecture, count, device, seeds.derive(seed, "evaluate"))
        self._labels = balanced_labels(count, images.classes, device)

    def __len__(self) -> int:
        return math.ceil(len(self._latents) / DRAW_BATCH)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        part = slice(number * DRAW_BATCH, (number + 1) * DRAW_BATCH)
        labels = self._labels[part]
        [images] = draw(self._network, self._architecture, self._latents[part], labels)
        return images, labels


def fakes_of(
    network: nn.Module, architecture: Architecture, images: ImageSpec, count: int, device: torch.device, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of `FakeBatches`, one after the other."""
    return iter(FakeBatches(network, architecture, images, count, device, seed))
