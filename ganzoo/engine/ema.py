"""EMA: the exponential moving average of the generator. Samples are drawn with it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ganzoo.contract.recipe import Recipe
from ganzoo.contract.schedule import Schedule

#: a half-life below this is this one: half-life 0 on a schedule copies the weights
_SHORTEST = 1e-8


class EMA:
    """The exponential moving average of a network's weights and buffers.

    `half_life` is a number of real images: after a step that saw `images` of them, the average keeps
    0.5 ** (images / half_life) of its value. With a half-life of 0, `network` is the network itself.

    The half-life may follow a schedule, which is evaluated at the images seen before the step. With a `ramp` it is at
    most that share of the images seen before the step (Karras et al. 2020, arXiv:2006.06676), and until `start` images
    were seen the weights are copied (Brock et al. 2019, arXiv:1809.11096). Buffers are averaged, or `copied`.
    """

    def __init__(
        self,
        network: nn.Module,
        half_life: float | Schedule,
        buffers: str = "averaged",
        start: int = 0,
        ramp: float = 0.0,
    ) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False) if half_life else network
        mine, theirs = (list(each.parameters()) if half_life else [] for each in (self.network, network))
        own_buffers, new_buffers = (list(each.buffers()) if half_life else [] for each in (self.network, network))
        pairs = list(zip(mine, theirs, strict=True))
        of_buffers = list(zip(own_buffers, new_buffers, strict=True))
        averaged = [pair for pair in of_buffers if pair[0].is_floating_point() and buffers == "averaged"]
        self._averaged = [*pairs, *averaged]
        # integer counters are always copied
        self._copied = [pair for pair in of_buffers if all(pair is not other for other in averaged)]
        self._half_life, self._start, self._ramp = half_life, start, ramp
        varies = bool(half_life) and (isinstance(half_life, Schedule) or bool(start) or bool(ramp))
        #: the half-life of this step where it is not constant: written before the step, read by a recorded one
        self._present: Tensor | None = None
        if varies:
            self._present = torch.zeros((), dtype=torch.float64, device=self._averaged[0][0].device)
            self.advance(0)

    @classmethod
    def of_recipe(cls, network: nn.Module, recipe: Recipe) -> EMA:
        """The EMA of a generator with the settings of a recipe."""
        half_life = recipe.ema_half_life
        return cls(
            network,
            Schedule.parse(half_life) if isinstance(half_life, str) else half_life,
            recipe.ema_buffers,
            recipe.ema_start,
            recipe.ema_ramp,
        )

    def set_length(self, images: int) -> None:
        """Set the number of real images that the run will have seen at its end, for a schedule that ends there."""
        if isinstance(self._half_life, Schedule):
            self._half_life = self._half_life.of_length(images)

    def advance(self, images_seen: int) -> None:
        """Before a step: write the half-life after `images_seen` real images, where it is not constant."""
        if self._present is None:
            return
        half_life = self._half_life.at(images_seen) if isinstance(self._half_life, Schedule) else self._half_life
        if self._ramp:
            half_life = min(half_life, self._ramp * images_seen)
        self._present.fill_(max(half_life if images_seen >= self._start else 0.0, _SHORTEST))

    @torch.no_grad()
    def update(self, images: int) -> None:
        """Update the average after a step that saw `images` real images, over all minibatches and processes.

        A recorded CUDA graph keeps the number it was recorded with: there is one graph for each size of the batches.
        """
        for averaged, current in self._copied:
            averaged.copy_(current)
        if not self._averaged:
            return
        averages, currents = (list(side) for side in zip(*self._averaged, strict=True))
        if self._present is None:
            assert not isinstance(self._half_life, Schedule)  # noqa: S101  (that of a schedule is in `_present`)
            torch._foreach_lerp_(averages, currents, 1 - 0.5 ** (images / self._half_life))
            return
        kept = (0.5 ** (images / self._present)).to(averages[0].dtype)
        # current + kept (average - current): with kept = 0 this is the current value exactly
        torch._foreach_sub_(averages, currents)
        torch._foreach_mul_(averages, kept)
        torch._foreach_add_(averages, currents)
