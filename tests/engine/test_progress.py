"""Progress counts steps, and computes images, epochs and intervals from them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganzoo import Amount, TrainingProgress
from ganzoo.engine.progress import Progress


class Counts:
    """What a feed counts, for epochs made of these batches."""

    def __init__(self, batches: list[int]) -> None:
        self.batches = batches

    def images_at(self, step: int) -> int:
        epochs, position = divmod(step, len(self.batches))
        return epochs * sum(self.batches) + sum(self.batches[:position])

    def epochs_at(self, step: int) -> Fraction:
        return Fraction(self.images_at(step), sum(self.batches))


#: 20 images in batches of 8, the last one smaller
BATCHES = [8, 8, 4]


def progress(length: str = "50 epochs", step: int = 0, batches: list[int] = BATCHES) -> Progress:
    made = Progress(Amount.parse(length), Counts(batches))
    made.step = step
    return made


def crossings(interval: str, steps: int, batches: list[int] = BATCHES) -> list[int]:
    return [step for step in range(steps + 1) if progress(step=step, batches=batches).crossed(Amount.parse(interval))]


def test_the_snapshot_has_steps_images_and_epochs():
    assert progress().snapshot == TrainingProgress(0, 0, 0.0)
    assert progress(step=1).snapshot == TrainingProgress(1, 8, 0.4)
    assert progress(step=3).snapshot == TrainingProgress(3, 20, 1.0)
    assert progress(step=4).snapshot == TrainingProgress(4, 28, 1.4)
    assert progress(step=4).images == 28


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("1 steps", [1, 2, 3, 4, 5, 6, 7]),
        ("3 steps", [3, 6]),
        ("8 steps", []),
        ("1 epochs", [3, 6]),
        ("2 epochs", [6]),
        ("20 images", [3, 6]),
        ("8 images", [1, 2, 4, 5, 6, 7]),  # 8 16 20 28 36 40 48
        ("1 images", [1, 2, 3, 4, 5, 6, 7]),  # several multiples in one step are one crossing
        ("10 images", [2, 3, 5, 6]),
        ("48 images", [7]),
        ("49 images", []),
    ],
)
def test_an_interval_is_crossed_by_the_step_that_reaches_it(interval, expected):
    assert crossings(interval, 7) == expected


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        ("1 steps", 1),
        ("7 steps", 7),
        ("1 images", 1),
        ("8 images", 1),
        ("9 images", 2),
        ("20 images", 3),
        ("21 images", 4),
        ("1 epochs", 3),
        ("50 epochs", 150),
        ("1M images", 150_000),
    ],
)
def test_a_run_is_done_at_the_first_step_that_reaches_its_length(length, steps):
    assert not progress(length, steps - 1).done
    assert progress(length, steps).done
    assert progress(length, steps + 1).done


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=5), st.integers(1, 200), st.integers(0, 60))
def test_crossings_are_the_multiples_that_were_reached(batches, count, steps):
    images_at = Counts(batches).images_at
    passed = {images_at(step) // count for step in range(steps + 1)} - {0}
    assert len(crossings(f"{count} images", steps, batches)) == len(passed)
