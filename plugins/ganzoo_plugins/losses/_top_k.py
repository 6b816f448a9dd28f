"""Top-k training of the generator: it learns from the fakes that look most real to the discriminator."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import click
import torch
from torch import Tensor

from ganzoo_plugins.layers.processes import gather_over_processes

#: the option of a loss
TopK: TypeAlias = Annotated[
    float,
    click.FloatRange(0, 1, min_open=True),
    "share of the fakes that train the generator, those with the largest logits",
]


def mean_of_top(losses: Tensor, logits: Tensor, share: float | Tensor) -> Tensor:
    """The mean of `losses` (N, ...) over the k images with the largest mean logits (N, ...); a scalar.

    Sinha et al. 2020, "Top-k Training of GANs" (arXiv:2002.06224), section 3: k is `share` times the fakes of all
    processes together, rounded down, and at least 1. The paper begins with all of them and multiplies k by a constant
    in each epoch, down to a least share; here it may follow a schedule, such as `top_k=1 -> 0.5 by 2M`. The device is
    not waited for.
    """
    if not isinstance(share, Tensor) and share == 1:
        return losses.mean()
    scores, first = gather_over_processes(logits.detach().flatten(1).mean(1) if logits.ndim > 1 else logits.detach())
    count = len(scores)
    # a number below an integer by rounding only, such as 0.29 * 100, is that integer
    kept = torch.as_tensor(share * count + 1e-4, dtype=scores.dtype, device=scores.device).floor().clamp(1, count)
    chosen = torch.zeros_like(scores)
    chosen[scores.argsort(descending=True)] = (torch.arange(count, device=scores.device) < kept).to(scores.dtype)
    mine = chosen[first : first + len(losses)] * (count / len(losses) / kept)
    # the mean over the processes is the mean over the k images
    return (losses.flatten(1).mean(1) if losses.ndim > 1 else losses).mul(mine).sum()
