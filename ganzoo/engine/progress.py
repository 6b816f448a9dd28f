"""Progress: the number of steps done. Images, epochs and intervals are computed from it."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

from ganzoo.contract.choice import Amount
from ganzoo.contract.hooks import TrainingProgress


class Counts(Protocol):
    """The images and epochs that a training has seen after a number of steps. `Feed` has these methods."""

    def images_at(self, step: int) -> int:
        """Number of real images seen after `step` steps."""

    def epochs_at(self, step: int) -> Fraction:
        """Number of epochs after `step` steps, exactly."""


class Progress:
    """The progress of a training to `length`: `step` is the number of steps done. `counts` is the feed."""

    def __init__(self, length: Amount, counts: Counts) -> None:
        self.step = 0
        self.length = length
        self.counts = counts

    @property
    def images(self) -> int:
        """Number of real images seen so far."""
        return self.counts.images_at(self.step)

    @property
    def snapshot(self) -> TrainingProgress:
        """The progress as plain numbers, for observers and file names."""
        return TrainingProgress(self.step, self.images, round(float(self.counts.epochs_at(self.step)), 4))

    @property
    def done(self) -> bool:
        """Whether the training has reached its length."""
        return self._passed(self.length, self.step) >= 1

    @property
    def last_step(self) -> int:
        """The number of steps of the whole training: the first one at which it is done."""
        low, high = 0, 1
        while not self._passed(self.length, high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._passed(self.length, middle) else (middle, high)
        return high

    def crossed(self, interval: Amount) -> bool:
        """Whether the last step reached or passed a multiple of `interval`."""
        return self.step > 0 and self._passed(interval, self.step) > self._passed(interval, self.step - 1)

    def _passed(self, interval: Amount, step: int) -> int:
        """Number of whole intervals in the first `step` steps, in exact numbers."""
        if interval.unit == "steps":
            return step // interval.count
        if interval.unit == "epochs":
            return self.counts.epochs_at(step) // interval.count
        return self.counts.images_at(step) // interval.count
