"""What is done to the real images of a step before the discriminator sees them. Fakes are left alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganzoo.contract.images import ValueRange
from ganzoo.engine.feed import Batch


def preprocessed(batches: Sequence[Batch], names: Sequence[str], value_range: ValueRange) -> Sequence[Batch]:
    """The minibatches with the reals changed; the same ones without `names`.

    `flip`: each image is mirrored left to right with probability 1/2. `dequantise`: uniform noise of one grey level, as
    the programs of Gulrajani et al. 2017 and Miyato et al. 2018 have it: the grey level x of 0..255 becomes
    low + (x + u) / 256 (high - low) with u uniform in [0, 1), in place of low + x / 255 (high - low).
    """
    for name in names:
        change = {"flip": _flipped, "dequantise": _dequantised}[name]
        batches = [Batch(change(batch.reals, value_range), batch.labels) for batch in batches]
    return batches


def _flipped(reals: Tensor, value_range: ValueRange) -> Tensor:
    mirrored = torch.rand(len(reals), 1, 1, 1, device=reals.device) < 0.5
    return torch.where(mirrored, reals.flip(3), reals)


def _dequantised(reals: Tensor, value_range: ValueRange) -> Tensor:
    low, high = value_range
    levels = (reals - low) * (255 / (high - low))
    return low + (levels + torch.rand_like(levels)) * ((high - low) / 256)
