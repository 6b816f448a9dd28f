"""Warnings about a training that goes wrong although all its numbers are finite."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

#: a sign is reported once it has lasted for this many ticks in a row
PATIENCE = 5
#: the discriminator wins: it classifies more than this share of the images correctly ...
WINNING = 0.995
#: ... and its loss is below this value, so little gradient is left
SPENT = 0.01
#: a discriminator whose accuracy is this close to 0.5 has learned nothing
COIN = 0.002
#: the fakes collapse: they differ less than this share of how much real images differ
COLLAPSED = 0.05


class HealthMonitor:
    """Checks ticks and sample grids. Each warning is returned once for as long as its sign lasts."""

    def __init__(self, reals: Tensor) -> None:
        """`reals` are some real images: uint8 (N, C, H, W)."""
        #: standard deviation of a pixel over the real images, averaged over the pixels, in 0..255
        self.spread = _spread(reals)
        self._lasted = {"winning": 0, "dead": 0, "collapsed": 0}

    def tick(self, scalars: Mapping[str, float]) -> str | None:
        """A warning about the discriminator, from the means since the last tick; None where it looks healthy."""
        accuracy, loss = scalars.get("discriminator_accuracy"), scalars.get("discriminator_loss")
        if accuracy is None or loss is None:
            return None
        if self._lasts("winning", accuracy > WINNING and abs(loss) < SPENT, PATIENCE):
            return (
                f"the discriminator wins: it was right on {accuracy:.1%} of the images for {PATIENCE} ticks, with a "
                f"loss of {loss:.2g}, and the generator learns little from it. Add a penalty such as r1, or lower its "
                f"learning rate."
            )
        if self._lasts("dead", abs(accuracy - 0.5) < COIN, PATIENCE):
            return (
                f"the discriminator may be dead: it was right on {accuracy:.1%} of the images for {PATIENCE} ticks, "
                f"like random guesses. Raise its learning rate, or update it more often (turns D,D,G)."
            )
        return None

    def grid(self, fakes: Tensor) -> str | None:
        """A warning where fakes of different latents, uint8 (N, C, H, W), are all alike; otherwise None."""
        share = _spread(fakes) / self.spread if self.spread else 1.0
        if self._lasts("collapsed", share < COLLAPSED, 2):
            return (
                f"the fakes collapse: those of {len(fakes)} latents differ {share:.1%} as much as real images do. Try "
                f"another seed, a penalty such as r1, or the augmentation diffaugment."
            )
        return None

    def _lasts(self, sign: str, seen: bool, patience: int) -> bool:
        """Whether a sign has now lasted exactly `patience` times in a row."""
        self._lasted[sign] = self._lasted[sign] + 1 if seen else 0
        return self._lasted[sign] == patience


def _spread(images: Tensor) -> float:
    return float(images.float().std(dim=0).mean()) if len(images) > 1 else 0.0
