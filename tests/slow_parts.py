"""Parts that pause at a place that a test chooses, so that the test can send a signal during the pause.

GANZOO_TEST_DAWDLE is the place: training, sampling, scoring or saving. Each time it is reached, one byte is appended to
the file GANZOO_TEST_MARK, and the part pauses for GANZOO_TEST_SECONDS; from the GANZOO_TEST_HANGS-th time on, for an
hour. The results of a run do not depend on this.
"""

from __future__ import annotations

import os
import time

import tiny
from torch import Tensor, nn

import ganzoo


def dawdle(place: str) -> None:
    """Pause, if the test chose this place."""
    if os.environ.get("GANZOO_TEST_DAWDLE") == place:
        with open(os.environ["GANZOO_TEST_MARK"], "ab") as file:
            file.write(b".")
            hangs = file.tell() >= int(os.environ.get("GANZOO_TEST_HANGS", "1000000"))
        time.sleep(3600 if hangs else float(os.environ["GANZOO_TEST_SECONDS"]))


class Generator(tiny.Generator):
    """Tiny's generator with pauses."""

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        dawdle("training" if self.training else "sampling")
        return super().forward(latents, labels)


class Dawdling(tiny.Tiny):
    """Tiny with pauses, an EMA, a loss with state, and scores during training."""

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
    """Brightness with pauses."""

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add features (N, 64)."""
        dawdle("scoring")
        super().update(features, labels, origin)


def sync(descriptor: int, real: object = os.fsync) -> None:
    """os.fsync with a pause at the files of a checkpoint."""
    if "checkpoints/.tmp" in os.readlink(f"/proc/self/fd/{descriptor}"):
        dawdle("saving")
    real(descriptor)  # type: ignore[operator]
