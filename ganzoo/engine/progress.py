"""Progress: the number of steps done. Images, epochs and intervals are computed from it."""

from __future__ import annotations

from collections.abc import Callable

from ganzoo.contract.choice import Amount
from ganzoo.contract.hooks import TrainingProgress


class Progress:
    """How far a training of `length` is. `step` is the number of steps done.

    `images_at(step)` is the number of real images seen after `step` steps; an epoch has `epoch_images` of them.
    """

    def __init__(self, length: Amount, images_at: Callable[[int], int], epoch_images: int) -> None:
        self.step = 0
        self.length = length
        self.images_at = images_at
        self.epoch_images = epoch_images

    @property
    def images(self) -> int:
        """Number of real images seen so far."""
        return self.images_at(self.step)

    @property
    def snapshot(self) -> TrainingProgress:
        """The progress as plain numbers, for observers and file names."""
        return TrainingProgress(self.step, self.images, round(self.images / self.epoch_images, 4))

    @property
    def done(self) -> bool:
        """Whether the training has reached its length."""
        return self._passed(self.length, self.step) >= 1

    def crossed(self, interval: Amount) -> bool:
        """Whether the last step reached or passed a multiple of `interval`."""
        return self.step > 0 and self._passed(interval, self.step) > self._passed(interval, self.step - 1)

    def _passed(self, interval: Amount, step: int) -> int:
        """Number of whole intervals in the first `step` steps, in exact integers."""
        if interval.unit == "steps":
            return step // interval.count
        images = interval.count * (self.epoch_images if interval.unit == "epochs" else 1)
        return self.images_at(step) // images
