"""A loss."""

from __future__ import annotations

from typing import Annotated

import click
from torch import Tensor
from torch.nn.functional import softplus

import ganzoo

ganzoo_api = 1


class LogisticMargin(ganzoo.SeparableLoss):
    """The non-saturating loss with a margin that the discriminator's logits should exceed.

    With margin 0 it is Goodfellow et al. 2014 (arXiv:1406.2661), section 3, last paragraph.
    """

    def __init__(self, *, margin: Annotated[float, click.FloatRange(min=0), "0: as published"] = 0.0) -> None:
        super().__init__()
        self.margin = margin

    def on_reals(self, logits: Tensor) -> Tensor:
        """Small if the logits of the real images are well above the margin."""
        return softplus(self.margin - logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        """Small if the logits of the fake images are well below minus the margin."""
        return softplus(self.margin + logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Small if the discriminator takes the fake images for real ones."""
        return softplus(-round.fake_logits).mean()
