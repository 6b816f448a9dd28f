"""Path length regularisation of generators with styles."""

from __future__ import annotations

import math
from typing import Annotated

import click
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.layers.processes import sum_over_processes


class PathLength(ganzoo.Loss):
    """Path length of StyleGAN2: a step in the styles changes the image by the same amount everywhere.

    Karras et al. 2020 (arXiv:1912.04958), section 3.2, equation 4: weight E (|J^T y| - a)^2, with J the derivative of
    the image by its styles, and y normal with deviation 1 / sqrt(height times width). The length of an image is the
    root of the mean over its rows of styles of the squared norm. a is the moving mean of the lengths, over all
    processes; the gradient also goes through it. It is saved in checkpoints.

    It draws 1 / `shrink` of the batch again. StyleGAN2 uses it every 4 steps, in a turn of its own:
    `--loss path-length:every=4 --turns G,G.lazy,D`. Only generators with styles have it, such as `stylegan2`.
    """

    mean: Tensor

    def __init__(
        self,
        *,
        weight: Annotated[float, click.FloatRange(min=0), "strength"] = 2.0,
        decay: Annotated[float, click.FloatRange(0, 1), "share of a new mean of lengths in the moving mean"] = 0.01,
        shrink: Annotated[int, click.IntRange(min=1), "1 in so many images of the batch"] = 2,
    ) -> None:
        super().__init__()
        self.weight, self.decay, self.shrink = weight, decay, shrink
        self.register_buffer("mean", torch.zeros(()))

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """Zero: the penalty does not train the discriminator."""
        return round.reals.new_zeros(())

    def generator(self, round: ganzoo.Round) -> Tensor:
        """weight E (length - a)^2. It also moves a."""
        fakes, styles = round.styled_fakes(max(1, len(round.latents) // self.shrink))
        directions = path_noise(fakes) / math.sqrt(fakes.shape[2] * fakes.shape[3])
        (slopes,) = torch.autograd.grad((fakes * directions).sum(), styles, create_graph=True)
        lengths = slopes.square().sum(dim=2).mean(dim=1).sqrt()
        total, processes = sum_over_processes(lengths.mean())
        mean = self.mean.lerp(total / processes, self.decay)
        with torch.no_grad():
            self.mean.copy_(mean)
        return self.weight * (lengths - mean).square().mean()


def path_noise(images: Tensor) -> Tensor:
    """Standard normal numbers of the images' shape."""
    return torch.randn_like(images)
