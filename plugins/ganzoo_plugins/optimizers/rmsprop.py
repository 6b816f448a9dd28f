"""RMSprop with PyTorch's own kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import click
import torch
from torch import nn

import ganzoo
from ganzoo_plugins.optimizers._clipping import clip_gradients, clip_weights


class RMSprop(ganzoo.Optimizer):
    """RMSprop as PyTorch computes it, with the defaults of WGAN; weights can be clipped.

    Tieleman & Hinton 2012, lecture 6e: v = alpha v + (1 - alpha) g^2 from 0; p -= lr g / (sqrt(v) + eps). Arjovsky et
    al. 2017 (arXiv:1701.07875), algorithm 1: a learning rate of 5e-5, and for the critic `clip=0.01`; their program
    (martinarjovsky/WassersteinGAN) leaves the rest to PyTorch. Keras's differs in its defaults: see `keras-rmsprop`.
    """

    def __init__(
        self,
        *,
        lr: Annotated[float, click.FloatRange(min=0), "learning rate, constant over the run"] = 5e-5,
        alpha: Annotated[float, click.FloatRange(0, 1, max_open=True), "decay of the mean square"] = 0.99,
        eps: Annotated[float, click.FloatRange(0, min_open=True), "added to the root of the mean square"] = 1e-8,
        clip: Annotated[
            float, click.FloatRange(min=0), "weights are clamped to -this..this after each step; 0: they are not"
        ] = 0.0,
        clip_norm: Annotated[
            float, click.FloatRange(min=0), "gradients are scaled down to this norm where it is larger; 0: they are not"
        ] = 0.0,
    ) -> None:
        super().__init__()
        self.lr, self.alpha, self.eps, self.clip, self.clip_norm = lr, alpha, eps, clip, clip_norm

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """torch's RMSprop over `parameters`."""
        parameters = list(parameters)
        device = parameters[0].device
        optimizer = torch.optim.RMSprop(
            parameters,
            lr=torch.tensor(self.lr, dtype=torch.float32, device=device),
            alpha=self.alpha,
            eps=self.eps,
            # the other kernel reads the learning rate on the host, so a recorded CUDA graph would keep the old one
            foreach=True,
            capturable=device.type == "cuda",
        )
        return clip_weights(clip_gradients(optimizer, self.clip_norm), self.clip)

    def learning_rate(self, images_seen: int) -> float:
        """Constant."""
        return self.lr
