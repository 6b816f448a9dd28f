"""Parts that dawdle where a test wants them to, and say that they are there: a signal can then arrive in the midst.

GANZOO_TEST_DAWDLE names the place, GANZOO_TEST_MARK a file that grows by a byte each time it is reached, and
GANZOO_TEST_SECONDS how long it takes to leave; from GANZOO_TEST_HANGS times on it takes for ever. Nothing that is
computed depends on them.
"""

from __future__ import annotations

import os
import time

import tiny
from torch import Tensor, nn

import ganzoo


def dawdle(place: str) -> None:
    """Stay a while, if this is the place."""
    if os.environ.get("GANZOO_TEST_DAWDLE") == place:
        with open(os.environ["GANZOO_TEST_MARK"], "ab") as file:
            file.write(b".")
            hangs = file.tell() >= int(os.environ.get("GANZOO_TEST_HANGS", "1000000"))
        time.sleep(3600 if hangs else float(os.environ["GANZOO_TEST_SECONDS"]))


class Generator(tiny.Generator):
    """As tiny's, in its own time."""

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        dawdle("training" if self.training else "sampling")
        return super().forward(latents, labels)


class Dawdling(tiny.Tiny):
    """As Tiny, in its own time; with an average, a loss with a memory, and scores on the way."""

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
    """How much brighter the fakes are, in its own time."""

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Take in features (N, 64)."""
        dawdle("scoring")
        super().update(features, labels, origin)


def sync(descriptor: int, real: object = os.fsync) -> None:
    """os.fsync, in its own time for the files of a checkpoint."""
    if "checkpoints/.tmp" in os.readlink(f"/proc/self/fd/{descriptor}"):
        dawdle("saving")
    real(descriptor)  # type: ignore[operator]
