"""Warnings about a training that goes wrong although all its numbers are finite.

After one wrong warning users ignore all others. So each warning is given only where its sign is reliable:
the accuracy of the discriminator, where logit 0 separates real from fake for the losses of the run; the spread of the
fakes, where there are enough of them, from the generator itself and not from its EMA, and only after it has lasted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ganzoo.contract.components import Loss
from ganzoo.contract.round import Round
from ganzoo.engine import seeds
from ganzoo.registry.source import PLUGIN_ERRORS

#: a sign in the statistics is reported once it has lasted for this many ticks in a row
PATIENCE = 5
#: the discriminator wins: it classifies more than this share of the images correctly ...
WINNING = 0.995
#: ... and its loss is below this value, so little gradient is left
SPENT = 0.01
#: a discriminator whose accuracy is this close to 0.5 has learned nothing ...
COIN = 0.002
#: ... if its loss also stays this close to the loss of a discriminator that cannot tell the images apart, as a share
GUESSING = 0.01
#: the fakes collapse: they differ less than this share of how much real images differ ...
COLLAPSED = 0.05
#: ... in this many checks in a row, over at least this many steps: an untrained generator draws the same for a while
COLLAPSED_CHECKS, COLLAPSED_STEPS = 3, 500
#: number of fakes that are compared, and of real images below which the comparison says nothing
SPREAD_FAKES, SPREAD_REALS = 64, 16


class HealthMonitor:
    """Checks ticks and fakes. Each warning is returned once for as long as its sign lasts."""

    def __init__(self, reals: Tensor, losses: Sequence[Loss] = ()) -> None:
        """`reals` are some real images: uint8 (N, C, H, W). `losses` are those of the run; they are not changed."""
        #: standard deviation of a pixel over the real images, averaged over the pixels, in 0..255
        self.spread = _spread(reals) if len(reals) >= SPREAD_REALS else 0.0
        #: the discriminator's loss where it gives logit 0 to every image; None where its accuracy means nothing
        self.guessing_loss = guessing_loss(losses)
        self._lasted = {"winning": 0, "dead": 0}
        self._collapsed_since: int | None = None
        self._collapsed_checks = 0
        self._collapse_reported = False

    def tick(self, scalars: Mapping[str, float]) -> str | None:
        """A warning about the discriminator, from the means since the last tick; None where it looks healthy."""
        accuracy, loss = scalars.get("discriminator_accuracy"), scalars.get("discriminator_loss")
        if accuracy is None or loss is None or self.guessing_loss is None:
            return None
        if self._lasts("winning", accuracy > WINNING and abs(loss) < SPENT):
            return (
                f"the discriminator wins: it was right on {accuracy:.1%} of the images for {PATIENCE} ticks, with a "
                f"loss of {loss:.2g}, and the generator learns little from it. Add a penalty such as r1, or lower its "
                f"learning rate."
            )
        guesses = abs(loss - self.guessing_loss) <= GUESSING * self.guessing_loss
        if self._lasts("dead", abs(accuracy - 0.5) < COIN and guesses):
            return (
                f"the discriminator may be dead: it was right on {accuracy:.1%} of the images for {PATIENCE} ticks, "
                f"like random guesses. Raise its learning rate, or update it more often (turns D,D,G)."
            )
        return None

    def fakes(self, step: int, fakes: Tensor) -> str | None:
        """A warning where the generator's fakes of different latents, uint8 (N, C, H, W), stay alike; otherwise None.

        `step` is the number of steps done. The fakes must be those of the weights that are trained: an EMA lags behind.
        """
        share = _spread(fakes) / self.spread if self.spread and len(fakes) >= SPREAD_REALS else 1.0
        if share >= COLLAPSED:
            self._collapsed_since, self._collapsed_checks, self._collapse_reported = None, 0, False
            return None
        if self._collapsed_since is None:
            self._collapsed_since = step
        self._collapsed_checks += 1
        lasted = step - self._collapsed_since
        if self._collapse_reported or self._collapsed_checks < COLLAPSED_CHECKS or lasted < COLLAPSED_STEPS:
            return None
        self._collapse_reported = True
        return (
            f"the fakes collapse: for {lasted} steps, those of {len(fakes)} latents have differed {share:.1%} as much "
            f"as real images do. Try another seed, a penalty such as r1, or the augmentation diffaugment."
        )

    def _lasts(self, sign: str, seen: bool) -> bool:
        """Whether a sign has now lasted exactly `PATIENCE` times in a row."""
        self._lasted[sign] = self._lasted[sign] + 1 if seen else 0
        return self._lasted[sign] == PATIENCE


def guessing_loss(losses: Sequence[Loss]) -> float | None:
    """The discriminator's loss where all logits are 0, if logit 0 separates real from fake images for these losses.

    Otherwise None: a critic (Wasserstein, relativistic) may add any number to its logits, least squares with the
    targets 0 and 1 separates at 0.5, and BEGAN's logits are never positive. There the share of logits above 0 is no
    accuracy. It is found by computing copies of the losses for discriminators that give one logit to every image: at
    0 that costs less than at -3 and at 3, and about as much more at both.
    """
    try:
        with seeds.aside(0, "health"):
            below, at, above = (_loss_of_one_logit(losses, logit) for logit in (-3.0, 0.0, 3.0))
    except PLUGIN_ERRORS:  # a loss that cannot be computed outside of a training
        return None
    rises = above - at, below - at
    # 0.25: targets that are smoothed on one side still mean the same
    alike = min(rises) > 0.1 and abs(above - below) < 0.25 * max(above, below)
    return at if alike and at > 0 and math.isfinite(at) else None


def _loss_of_one_logit(losses: Sequence[Loss], logit: float) -> float:
    """The discriminator's loss, summed over copies of `losses`, where every image gets the same logit."""
    device = next((tensor.device for loss in losses for tensor in loss.buffers()), torch.device("cpu"))
    reals, labels = torch.zeros(4, 1, 8, 8, device=device), torch.zeros(4, dtype=torch.int64, device=device)

    def discriminate(images: Tensor, labels: Tensor) -> Tensor:
        return logit + 0 * images.flatten(1).sum(1)  # depends on the images, for penalties on its gradient

    round = Round(reals, labels, torch.zeros(4, 2, device=device), lambda latents, labels: reals + 0.5, discriminate)
    with torch.enable_grad():
        return sum(float(loss.discriminator(round).detach()) for loss in copy.deepcopy(list(losses)))


def _spread(images: Tensor) -> float:
    return float(images.float().std(dim=0).mean()) if len(images) > 1 else 0.0
