"""Compare an exported generator with the network it was made from, before the export is called done."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.images import ImageSpec

#: the batch sizes that are compared; the example's is neither of them
BATCH_SIZES = (1, 7)
#: the largest difference of a pixel, in units of the architecture's value range; float16 weights change more
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2


@torch.no_grad()
def check(
    network: nn.Module, exported: nn.Module, architecture: Architecture, images: ImageSpec, half: bool = False
) -> dict[str, Any]:
    """The batch sizes that were compared and the largest error of a pixel.

    Raises GanzooError where the exported generator does not run at one of them, or differs by more than the tolerance:
    1e-4, and 2e-2 for float16 weights (`half`).
    """
    largest, tolerance = 0.0, HALF_TOLERANCE if half else TOLERANCE
    for size in BATCH_SIZES:
        latents, labels = example(architecture, images, size, seed=size)
        expected: Tensor = network(latents, labels)
        try:
            found: Tensor = exported(latents, labels)
        except Exception as error:  # the runtimes have classes of their own
            raise GanzooError(
                f"The exported generator does not run at a batch of {size} ({type(error).__name__}: "
                f"{(str(error).strip().splitlines() or [''])[0][:200]}); nothing was written."
            ) from None
        if found.shape != expected.shape:
            raise GanzooError(
                f"The exported generator gives {tuple(found.shape)} at a batch of {size}, the run's "
                f"{tuple(expected.shape)}; nothing was written."
            )
        largest = max(largest, (found.float() - expected.float()).abs().max().item())
    if not largest <= tolerance:
        raise GanzooError(
            f"The exported generator differs from the run's by {largest:.2g} in a pixel, more than {tolerance:g}; "
            "nothing was written. Try another --format, and please report it."
        )
    return {"batch_sizes": list(BATCH_SIZES), "largest_error": largest, "tolerance": tolerance}


def example(architecture: Architecture, images: ImageSpec, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Latents (size, Z) and labels (size,) on the CPU."""
    latents = architecture.latents(size, torch.Generator().manual_seed(seed))
    return latents, torch.arange(size) % images.classes
