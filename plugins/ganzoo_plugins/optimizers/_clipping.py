"""Weight clipping, with which the first WGAN keeps its discriminator Lipschitz."""

from __future__ import annotations

from typing import Any

import torch


def clip_weights(optimizer: torch.optim.Optimizer, limit: float) -> torch.optim.Optimizer:
    """Make an optimiser clamp all its parameters to -limit..limit after each step, and return it; 0: no clamping.

    Arjovsky et al. 2017 (arXiv:1701.07875), algorithm 1, line 7. Scales of batch norm and biases are clamped too.
    """
    if limit:
        optimizer.register_step_post_hook(lambda stepped, arguments, keywords: _clamp(stepped, limit))
    return optimizer


@torch.no_grad()
def _clamp(optimizer: torch.optim.Optimizer, limit: float) -> None:
    for group in optimizer.param_groups:
        parameters: list[Any] = group["params"]
        torch._foreach_clamp_min_(parameters, -limit)
        torch._foreach_clamp_max_(parameters, limit)
