"""The non-saturating loss, with which most GANs since 2014 were trained."""

from __future__ import annotations

from typing import Annotated, Literal

import click
from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo_plugins.losses._top_k import TopK, mean_of_top


class NonSaturating(ganzoo.SeparableLoss):
    """Cross-entropy for the discriminator; the generator maximises log D of its fakes.

    Goodfellow et al. 2014 (arXiv:1406.2661), equation 1 and the end of section 3: the discriminator's loss is
    -E log D(real) - E log(1 - D(fake)), the generator's -E log D(fake), with D = sigmoid(logits). In logits -log D is
    softplus(-logits) and -log(1 - D) is softplus(logits), which stay finite where the logarithm of a sigmoid does not.
    One-sided label smoothing is that of Salimans et al. 2016 (arXiv:1606.03498), section 3.4: only reals are smoothed.
    """

    newer_options = ("top_k",)

    def __init__(
        self,
        *,
        reduction: Annotated[
            Literal["sum", "mean"],
            "sum: the mean over reals plus the mean over fakes; mean: one mean over both together, which is half",
        ] = "sum",
        label_smoothing: Annotated[float, click.FloatRange(0, 0.5), "the target of reals is 1 minus this"] = 0.0,
        top_k: TopK = 1.0,
    ) -> None:
        super().__init__()
        self.share = {"sum": 1.0, "mean": 0.5}[reduction]
        self.label_smoothing, self.top_k = label_smoothing, top_k

    def on_reals(self, logits: Tensor) -> Tensor:
        """Cross-entropy with the target 1 - label_smoothing."""
        # (1 - s) softplus(-x) + s softplus(x) = softplus(-x) + s x
        return self.share * (softplus(-logits) + self.label_smoothing * logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        """Cross-entropy with the target 0."""
        return self.share * softplus(logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Cross-entropy of fakes with the target 1: the mean over the fakes, for either reduction."""
        return mean_of_top(softplus(-round.fake_logits), round.fake_logits, self.top_k)
