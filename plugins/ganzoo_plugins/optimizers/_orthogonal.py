"""Orthogonal regularisation of BigGAN: weights are pulled towards rows that are orthogonal to each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def orthogonal_gradient(weight: Tensor, strength: float) -> Tensor:
    """strength * 2 (W W^T with a diagonal of zeros) W, for W of (outputs, everything else), in the weight's shape."""
    rows = weight.flatten(1)
    product = rows @ rows.t()
    return (2 * strength * (product - product.diag().diag()) @ rows).view_as(weight)


def regularise_orthogonally(optimizer: torch.optim.Optimizer, strength: float) -> torch.optim.Optimizer:
    """Add `orthogonal_gradient` to the gradients of all matrices before each step.

    A parameter with the attribute `not_orthogonal` is left out. A strength of 0 changes nothing.
    """

    @torch.no_grad()
    def add(stepped: torch.optim.Optimizer, *_: Any) -> None:
        for group in stepped.param_groups:
            for parameter in group["params"]:
                if (
                    parameter.ndim > 1
                    and parameter.grad is not None
                    and not getattr(parameter, "not_orthogonal", False)
                ):
                    parameter.grad = parameter.grad + orthogonal_gradient(parameter, strength)

    if strength:
        optimizer.register_step_pre_hook(add)
    return optimizer
