"""The eps of batch norms, in which published programs differ."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganzoo_plugins.layers.keras import BatchNorm


def set_eps(network: nn.Module, eps: float) -> None:
    """Set the number that every batch norm of a network adds to the variance."""
    for module in network.modules():
        if isinstance(module, _BatchNorm | BatchNorm):
            module.eps = eps
