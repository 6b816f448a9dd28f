"""Adaptive discriminator augmentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import click
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.augmentations._pipe import BLIT, COLOUR, GEOMETRY, TRANSFORMS, Pipe, filter_bank
from ganzoo_plugins.augmentations._warp import low_pass
from ganzoo_plugins.layers.processes import sum_over_processes

_BG = (*BLIT, *GEOMETRY)
#: name -> transformations and their shares; those of R3GAN are in arXiv:2501.05441, with colours at half the strength
_PIPES: Mapping[str, Mapping[str, float]] = {
    "blit": dict.fromkeys(BLIT, 1.0),
    "geom": dict.fromkeys(GEOMETRY, 1.0),
    "color": dict.fromkeys(COLOUR, 1.0),
    "filter": {"imgfilter": 1.0},
    "noise": {"noise": 1.0},
    "cutout": {"cutout": 1.0},
    "bg": dict.fromkeys(_BG, 1.0),
    "bgc": dict.fromkeys((*_BG, *COLOUR), 1.0),
    "bgcf": dict.fromkeys((*_BG, *COLOUR, "imgfilter"), 1.0),
    "bgcfn": dict.fromkeys((*_BG, *COLOUR, "imgfilter", "noise"), 1.0),
    "bgcfnc": dict.fromkeys(TRANSFORMS, 1.0),
    "r3gan": dict.fromkeys(_BG, 1.0) | dict.fromkeys(COLOUR, 0.5) | {"cutout": 1.0},
}


class ADA(ganzoo.Augmentation):
    """Adaptive augmentation: flips, turns, zooms, colours, ..., as often as the discriminator overfits.

    Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (arXiv:2006.06676): the
    transformations of appendix B with the strengths of its program, and the controller of section 3. Each is applied to
    an image with probability p times its share. Changes of shape and colour do not leak into the generated images while
    p is below about 0.8.

    `mode` is how p changes. adaptive: after every `interval` steps p rises or falls, by 1 in `speed` real images, as
    the mean sign of the real images' logits since then is above or below `target`; it is never below 0. fixed: p stays
    as it is, or follows a schedule, such as `p=0 -> 0.55 by 20M`.

    `pipe` is one of blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn, bgcfnc and r3gan, or
    transformations joined by pluses, each with a share where it is not 1: `xflip+hue*0.5`. The transformations are
    xflip, rotate90, xint, scale, rotate, aniso, xfrac, brightness, contrast, lumaflip, hue, saturation, imgfilter,
    noise and cutout. Images have values in [-1, 1]; cutout and what is beyond the reflected borders become 0.

    p and the signs are in buffers, and no step waits for them. On a GPU the gradient of an image is summed in no fixed
    order, so two runs there agree to rounding only.
    """

    strength: Tensor
    signs: Tensor
    count: Tensor
    steps: Tensor
    seen: Tensor
    taps: Tensor
    bank: Tensor

    def __init__(
        self,
        *,
        pipe: Annotated[str, "a set of transformations, or some of them joined by pluses"] = "bgc",
        mode: Annotated[Literal["adaptive", "fixed"], "whether p adapts"] = "adaptive",
        p: Annotated[float, click.FloatRange(min=0), "strength; adaptive: at the beginning"] = 0.0,
        target: Annotated[float, click.FloatRange(-1, 1), "adaptive: mean sign of the logits of real images"] = 0.6,
        speed: Annotated[
            float, click.FloatRange(min=0, min_open=True), "adaptive: real images over which p can rise by 1"
        ] = 500_000,
        interval: Annotated[int, click.IntRange(min=1), "adaptive: steps between two changes of p"] = 4,
    ) -> None:
        super().__init__()
        #: the strength at the beginning; a scalar tensor where it follows a schedule
        self.p: float | Tensor = p
        self.mode = mode
        self.target, self.speed, self.interval = target, speed, interval
        self.apply_pipe = Pipe(_shares(pipe))
        self.register_buffer("strength", torch.tensor(float(p)))
        #: sum of the signs of the logits of real images since the last change of p, and their number
        self.register_buffer("signs", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))
        #: steps, and real images, that were seen
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("taps", low_pass(), persistent=False)
        self.register_buffer("bank", filter_bank().to(torch.float32), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) in [-1, 1] -> the same shape."""
        if isinstance(self.p, Tensor) and self.mode == "adaptive":
            raise ganzoo.UsageError("ada: p cannot follow a schedule and adapt as well; add mode=fixed.")
        strength = self.p if isinstance(self.p, Tensor) else self.strength
        return self.apply_pipe(images, strength, self.taps, self.bank)

    def observe(self, real_logits: Tensor) -> None:
        """Add the signs of the logits (N, ...) of real images of all processes."""
        if self.mode != "adaptive":
            return
        signs = real_logits.detach().sign().to(self.signs.dtype)
        sums, _ = sum_over_processes(torch.stack([signs.sum(), torch.full_like(self.count, signs.numel())]))
        self.signs += sums[0]
        self.count += sums[1]

    @torch.no_grad()
    def advance(self, images_seen: int) -> None:
        """Before a step: change p, which is read on the device only."""
        if self.mode != "adaptive":
            return
        # the program changes p at the end of its iterations 0, `interval`, 2 `interval`, ...
        images = images_seen - self.seen
        due = (images > 0) & (self.steps % self.interval == 0)
        self.steps += images > 0
        self.seen.fill_(images_seen)
        direction = (self.signs / self.count.clamp(min=1) - self.target).sign()
        change = direction * images * (self.interval / self.speed)
        self.strength.copy_(torch.where(due, (self.strength + change).clamp(min=0), self.strength))
        self.signs.mul_(~due)
        self.count.mul_(~due)


def _shares(pipe: str) -> Mapping[str, float]:
    """The share of each transformation that is named. Raises UsageError for other words."""
    if pipe in _PIPES:
        return _PIPES[pipe]
    shares: dict[str, float] = {}
    for word in pipe.split("+"):
        match = re.fullmatch(r"\s*(\w+)\s*(?:\*\s*(\d*\.?\d+))?\s*", word)
        if not match or match[1] not in TRANSFORMS or match[1] in shares:
            raise ganzoo.UsageError(
                f"ada: pipe={pipe!r} is none of {', '.join(_PIPES)}, and names no transformations, each once, joined "
                f"by '+': {', '.join(TRANSFORMS)}."
            )
        shares[match[1]] = float(match[2] or 1)
    return shares
