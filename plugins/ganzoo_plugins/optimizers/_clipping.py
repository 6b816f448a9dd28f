"""Clipping of weights, with which the first WGAN keeps its discriminator Lipschitz, and of gradients."""

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


def clip_gradients(optimizer: torch.optim.Optimizer, norm: float) -> torch.optim.Optimizer:
    """Make an optimiser scale its gradients down before each step where their norm is above `norm`; 0: it does not.

    The norm is that of all gradients of the network together (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1). The
    device is not waited for.
    """
    if norm:
        optimizer.register_step_pre_hook(lambda stepped, arguments, keywords: _scale_down(stepped, norm))
    return optimizer


def _scale_down(optimizer: torch.optim.Optimizer, norm: float) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, norm)


@torch.no_grad()
def _clamp(optimizer: torch.optim.Optimizer, limit: float) -> None:
    for group in optimizer.param_groups:
        parameters: list[Any] = group["params"]
        torch._foreach_clamp_min_(parameters, -limit)
        torch._foreach_clamp_max_(parameters, limit)
