"""The gradients of a turn over equal parts of its minibatch, one after the other, so that a large batch fits a device.

The latents and labels of the whole minibatch are drawn once and split. So where networks and losses treat each image by
itself and draw no random numbers, the mean over the parts is that of the whole minibatch. An epoch's last, smaller
minibatch has fewer parts, of which the last may be smaller: each part is weighted by its share of the images.

What draws random numbers, such as dropout or an augmentation, draws others for each part, from the same distribution.
Buffers that a network updates in each forward, such as the vectors of spectral norm, are updated once in each part.
Networks and losses that couple the images of a batch are refused before the first step, see `ganzoo.training.coupling`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ganzoo.contract.errors import UsageError
from ganzoo.contract.recipe import Recipe, check_accumulation
from ganzoo.contract.round import Round
from ganzoo.engine.distributed import world_size


@dataclass
class TurnGradients:
    """What a turn computed, or a part of it. The tensors have no graph."""

    #: the loss of each player; None where none is due
    losses: list[Tensor | None]
    #: the gradients of each loss; none where it is None
    gradients: list[tuple[Tensor, ...]]
    #: the logits that were computed, by side (`reals`, `fakes`)
    logits: dict[str, Tensor]
    #: the round, where the next turn uses its fakes
    reused: Round | None = None


def images_of_a_part(recipe: Recipe) -> int:
    """The number of images in a part of this process's minibatch. Without accumulation it has no limit.

    Raises UsageError where `accumulate` does not divide the images of each process, or fakes are reused.
    """
    check_accumulation(recipe)
    if recipe.accumulate == 1:
        return sys.maxsize
    share, rest = divmod(recipe.batch_size, recipe.accumulate * world_size())
    if rest:
        raise UsageError(
            f"accumulate={recipe.accumulate} does not divide the images that each of {world_size()} processes has of a "
            f"batch of {recipe.batch_size}; choose another --accumulate or --batch-size."
        )
    return share


def mean_over_parts(parts: Iterable[tuple[float, TurnGradients]]) -> TurnGradients:
    """The mean of losses and gradients, weighted by each part's share of the images, and the logits of all parts.

    A single part is returned as it is.
    """
    total: TurnGradients | None = None
    logits: list[dict[str, Tensor]] = []
    for share, part in parts:
        logits.append(part.logits)
        if total is None:
            total = part if share == 1 else _times(part, share)
        else:
            _add(total, part, share)
    assert total is not None  # noqa: S101  (a minibatch has at least one part)
    if len(logits) > 1:
        total.logits = {side: torch.cat([each[side] for each in logits]) for side in logits[0]}
    return total


def _times(part: TurnGradients, share: float) -> TurnGradients:
    losses = [None if loss is None else loss * share for loss in part.losses]
    # new tensors: autograd may return one tensor as the gradient of two parameters
    return replace(part, losses=losses, gradients=[tuple(g * share for g in each) for each in part.gradients])


def _add(total: TurnGradients, part: TurnGradients, share: float) -> None:
    for loss, value in zip(total.losses, part.losses, strict=True):
        if loss is not None and value is not None:
            loss.add_(value, alpha=share)
    for gradients, values in zip(total.gradients, part.gradients, strict=True):
        for gradient, new in zip(gradients, values, strict=True):
            gradient.add_(new, alpha=share)
