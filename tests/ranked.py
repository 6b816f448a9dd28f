"""An extractor and an evaluator whose last digits depend on the batches, their order and their sizes.

Environment variables let one process of several fail, draw random numbers or be stopped in a batch of fakes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

import torch
from torch import Tensor

import ganzoo

FAKES_OF_A_BATCH = (250, 100)  # a batch of the reals of tests has another size


class Mixed(ganzoo.Extractor):
    """64 random mixtures of the pixels of 8x8 images, in single precision."""

    layers = {"mixed": 64}
    digest = "mixed-1"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mixing", torch.randn(64, 64, generator=torch.Generator().manual_seed(5)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Mixtures of pixels, normalised by the batch, so that they depend on which images are together."""
        if path := os.environ.get("GANZOO_TEST_BATCHES"):
            with open(path, "a") as file:
                file.write(f"{len(images)}\n")
        if len(images) in FAKES_OF_A_BATCH:
            if os.environ.get("GANZOO_TEST_FAILING_BATCH"):
                raise ganzoo.GanzooError("This batch cannot be read.")
            if number := os.environ.pop("GANZOO_TEST_SIGNAL", ""):
                os.kill(os.getpid(), signal.Signals(int(number)))
        if os.environ.get("GANZOO_TEST_RANDOM_FEATURES"):
            torch.rand(1)
        values = images.flatten(1).float() / 255
        return {"mixed": (values - values.mean(0)) @ self.mixing}


class Ordered(ganzoo.Evaluator):
    """A sum of features that forgets a little with each batch."""

    extractor = f"{__file__}:Mixed"
    layer = "mixed"
    scores = {"ordered": ganzoo.Score("lower")}

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Forget all batches."""
        self.sums = {origin: torch.zeros(dimensions, device=device) for origin in ("reals", "fakes")}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add a batch, (n, 64)."""
        self.sums[origin] = 0.75 * self.sums[origin] + (features.abs() * (1 + labels[:, None])).sum(0)

    def compute(self) -> dict[str, float]:
        """The distance of the sums."""
        return {"ordered": float((self.sums["reals"] - self.sums["fakes"]).norm()) + float(torch.rand(1))}

    def statistics(self) -> dict[str, Tensor]:
        """The sum of the reals."""
        return {"reals": self.sums["reals"]}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use this sum of the reals."""
        self.sums["reals"] = statistics["reals"]
