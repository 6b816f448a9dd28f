"""The loss of the original, zero-sum GAN."""

from __future__ import annotations

from typing import Annotated

import click
from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo_plugins.losses._top_k import TopK, mean_of_top


class Minimax(ganzoo.SeparableLoss):
    """Cross-entropy for the discriminator; the generator minimises log(1 - D) of its fakes.

    Goodfellow et al. 2014 (arXiv:1406.2661), equation 1 and algorithm 1: the discriminator's loss is
    -E log D(real) - E log(1 - D(fake)), the generator's E log(1 - D(fake)), with D = sigmoid(logits). Its gradient
    vanishes where the discriminator is sure that fakes are fake. In logits -log D is softplus(-logits) and -log(1 - D)
    is softplus(logits). One-sided label smoothing is that of Salimans et al. 2016 (arXiv:1606.03498), section 3.4: only
    reals are smoothed, the generator's loss does not change.
    """

    newer_options = ("top_k",)

    def __init__(
        self,
        *,
        label_smoothing: Annotated[float, click.FloatRange(0, 0.5), "the target of reals is 1 minus this"] = 0.0,
        top_k: TopK = 1.0,
    ) -> None:
        super().__init__()
        self.label_smoothing, self.top_k = label_smoothing, top_k

    def on_reals(self, logits: Tensor) -> Tensor:
        """Cross-entropy with the target 1 - label_smoothing; -E log D without it."""
        # (1 - s) softplus(-x) + s softplus(x) = softplus(-x) + s x
        return (softplus(-logits) + self.label_smoothing * logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        """-E log(1 - D)."""
        return softplus(logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """E log(1 - D) of the fakes; negative."""
        return mean_of_top(-softplus(round.fake_logits), round.fake_logits, self.top_k)
