"""The zero-sum game that gave the field its name."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

import ganzoo


class Minimax(ganzoo.SeparableLoss):
    """Cross-entropy for the discriminator; the generator minimises log(1 - D) of its fakes.

    Goodfellow et al. 2014 (arXiv:1406.2661), equation 1 and algorithm 1: the discriminator's cost is
    -E log D(real) - E log(1 - D(fake)), the generator's E log(1 - D(fake)), with D = sigmoid(logits). So its gradient
    fades where the discriminator is sure of the fakes. In logits -log D is softplus(-logits) and -log(1 - D) is
    softplus(logits).
    """

    def __init__(self) -> None:  # no options
        super().__init__()

    def on_reals(self, logits: Tensor) -> Tensor:
        """-E log D."""
        return softplus(-logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        """-E log(1 - D)."""
        return softplus(logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """E log(1 - D) of the fakes; negative."""
        return -softplus(round.fake_logits).mean()
