"""Watch: signs that a game has gone wrong although all its numbers are finite."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

#: ticks in a row that a sign must last before it is said
PATIENCE = 5
#: the discriminator tells reals from fakes this often: the generator learns little from it
WINNING = 0.995
#: its cost is this small where it wins: most of its gradient is gone
SPENT = 0.01
#: how much its accuracy must differ from a coin's for it to have learned anything at all
COIN = 0.002
#: fakes of different latents differ this much less than reals do
COLLAPSED = 0.05


class HealthMonitor:
    """Looks at ticks and grids, and says a thing once for as long as it lasts."""

    def __init__(self, reals: Tensor) -> None:
        #: mean standard deviation of a pixel over some reals, in 0..255
        self.spread = _spread(reals)
        self._lasted = {"winning": 0, "dead": 0, "collapsed": 0}

    def tick(self, scalars: Mapping[str, float]) -> str | None:
        """A warning about the discriminator, or nothing."""
        accuracy, cost = scalars.get("discriminator_accuracy"), scalars.get("discriminator_loss")
        if accuracy is None or cost is None:
            return None
        if self._lasts("winning", accuracy > WINNING and abs(cost) < SPENT, PATIENCE):
            return (
                f"the discriminator wins: it was right on {accuracy:.1%} of the images for {PATIENCE} ticks, at a cost "
                f"of {cost:.2g}, and the generator learns little from it. Add a penalty such as r1, or lower its "
                f"learning rate."
            )
        if self._lasts("dead", abs(accuracy - 0.5) < COIN, PATIENCE):
            return (
                f"the discriminator may be dead: it was right on {accuracy:.1%} of the images for {PATIENCE} ticks, as "
                f"a coin would be. Raise its learning rate, or let it move more often (turns D,D,G)."
            )
        return None

    def grid(self, fakes: Tensor) -> str | None:
        """A warning about fakes of different latents that are all alike, or nothing; uint8 (N, C, H, W)."""
        share = _spread(fakes) / self.spread if self.spread else 1.0
        if self._lasts("collapsed", share < COLLAPSED, 2):
            return (
                f"the fakes collapse: those of {len(fakes)} latents differ {share:.1%} as much as reals do. Try "
                f"another seed, a penalty such as r1, or the augmentation diffaugment."
            )
        return None

    def _lasts(self, sign: str, seen: bool, patience: int) -> bool:
        """Whether a sign has just lasted `patience` times in a row."""
        self._lasted[sign] = self._lasted[sign] + 1 if seen else 0
        return self._lasted[sign] == patience


def _spread(images: Tensor) -> float:
    return float(images.float().std(dim=0).mean()) if len(images) > 1 else 0.0
