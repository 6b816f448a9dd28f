"""Parts that wait at a place that a test chooses, so that a signal can arrive there.

GANZOO_TEST_DAWDLE names the place. Each time it is reached, the file GANZOO_TEST_MARK grows by one byte, and the part
waits GANZOO_TEST_SECONDS; from the GANZOO_TEST_HANGS-th time on it waits an hour. No result depends on this.
"""

from __future__ import annotations

import os
import time

import tiny
from torch import Tensor, nn

import ganzoo


def dawdle(place: str) -> None:
    """Wait, if the test chose this place."""
    if os.environ.get("GANZOO_TEST_DAWDLE") == place:
        with open(os.environ["GANZOO_TEST_MARK"], "ab") as file:
            file.write(b".")
            hangs = file.tell() >= int(os.environ.get("GANZOO_TEST_HANGS", "1000000"))
        time.sleep(3600 if hangs else float(os.environ["GANZOO_TEST_SECONDS"]))


class Generator(tiny.Generator):
    """Tiny's generator, which can wait."""

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        dawdle("training" if self.training else "sampling")
        return super().forward(latents, labels)


class Dawdling(tiny.Tiny):
    """Tiny, which can wait; with an EMA, a loss with state, and scores during training."""

    recipe = tiny.RECIPE.merged(
        {
            "ema_half_life": 50,
            "losses": ["nonsaturating", f"{tiny.__file__}:Remembering"],
            "evaluators": [f"{__file__}:Dawdler"],
            "score_every": "8 steps",
            "score_samples": 1000,
            "length": "24 steps",
        }
    )

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        _, discriminator = super().networks(images)
        return Generator(images, self.width, self.norm, 0), discriminator


class Dawdler(tiny.Brightness):
    """How much brighter the fake images are; it can wait."""

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Take in features (N, 64)."""
        dawdle("scoring")
        super().update(features, labels, origin)


def sync(descriptor: int, real: object = os.fsync) -> None:
    """os.fsync, which can wait at the files of a checkpoint."""
    if "checkpoints/.tmp" in os.readlink(f"/proc/self/fd/{descriptor}"):
        dawdle("saving")
    real(descriptor)  # type: ignore[operator]
