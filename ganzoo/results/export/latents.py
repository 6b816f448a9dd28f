"""How the latents of an exported generator are drawn where the code of its architecture is not installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.images import ImageSpec

#: latents are drawn in blocks of this size, see ganzoo/engine/sampler.py
_BLOCK = 64
_Draw = Callable[[int, int, torch.Generator], Tensor]
#: what a card says of the latents -> how they are drawn: (count, size, generator) -> (count, size)
_DISTRIBUTIONS: dict[tuple[str, float | None, float | None], _Draw] = {
    ("normal", None, None): lambda count, size, g: torch.randn(count, size, generator=g, device=g.device),
    ("uniform", -1.0, 1.0): lambda count, size, g: torch.rand(count, size, generator=g, device=g.device) * 2 - 1,
    ("uniform", 0.0, 1.0): lambda count, size, g: torch.rand(count, size, generator=g, device=g.device),
}
#: latents that no other program draws: they come from the code of the architecture
OWN = "own"


def describe_latents(architecture: Architecture) -> dict[str, Any]:
    """Size and distribution of the latents: `normal`, `uniform` with its `range`, or `own`.

    A distribution is named only if it draws the same latents as the architecture from the same random generator.
    """
    drawn = [architecture.latents(_BLOCK, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    size = drawn[0].shape[1]
    for (name, low, high), draw in _DISTRIBUTIONS.items():
        same = [draw(_BLOCK, size, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
        if all(torch.allclose(one, other, atol=1e-6) for one, other in zip(drawn, same, strict=True)):
            return {"size": size, "distribution": name, "range": None if low is None else [low, high]}
    return {"size": size, "distribution": OWN, "range": None}


class ExportedArchitecture(Architecture):
    """What is known of an architecture from the card of an export: latents, value range, whether it uses the labels."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        self._latents = card["inputs"][0]
        low, high = card["outputs"][0]["range"]
        self.value_range = (float(low), float(high))  # type: ignore[misc]
        self.conditional = bool(card["conditional"])  # type: ignore[misc]

    def networks(self, images: ImageSpec) -> tuple[nn.Module, nn.Module]:
        """Raises GanzooError: an export has no code of the networks."""
        raise GanzooError("An exported generator cannot be trained: its networks are not here as code.")

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, size) latents, those that the architecture itself draws from this generator."""
        bounds = self._latents["range"] or (None, None)
        draw = _DISTRIBUTIONS[self._latents["distribution"], bounds[0], bounds[1]]
        return draw(count, int(self._latents["shape"][1]), generator)
