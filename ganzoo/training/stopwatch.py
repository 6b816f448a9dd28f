"""Times of a run: how long it has trained and scored, and how fast it is. A checkpoint keeps them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Seconds of a run, over all processes that continued it one after another."""

    def __init__(self) -> None:
        #: of `seconds`, those that went into scores
        self.scoring_seconds = 0.0
        self._before = 0.0
        #: images seen and seconds of training at the last tick
        self._at_last_tick = (0, 0.0)
        self.start()

    def start(self) -> None:
        """Count from now on, beginning at the seconds of the processes before."""
        self._started = time.perf_counter() - self._before

    @property
    def seconds(self) -> float:
        """Seconds until now, scores included."""
        return time.perf_counter() - self._started

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Count the seconds of this block as scoring."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.scoring_seconds += time.perf_counter() - started

    def tick(self, images: int) -> tuple[float, float]:
        """(seconds until now, images per second of training since the last tick) with `images` seen by now."""
        seconds = self.seconds
        training_seconds = seconds - self.scoring_seconds
        images_before, seconds_before = self._at_last_tick
        self._at_last_tick = (images, training_seconds)
        return seconds, (images - images_before) / max(training_seconds - seconds_before, 1e-9)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps in its meta.json."""
        ticked_images, ticked_seconds = self._at_last_tick
        return {
            "seconds": self.seconds,
            "scoring_seconds": self.scoring_seconds,
            "ticked_images": ticked_images,
            "ticked_seconds": ticked_seconds,
        }

    def restore(self, meta: Mapping[str, Any]) -> None:
        """Continue from the times in the meta.json of a checkpoint."""
        self._before = meta["seconds"]
        self.scoring_seconds = meta.get("scoring_seconds", 0.0)  # checkpoints of version 0.1.0 lack it
        self._at_last_tick = (meta["ticked_images"], meta["ticked_seconds"])
        self.start()
