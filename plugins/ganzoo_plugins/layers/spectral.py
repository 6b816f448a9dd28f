"""Spectral norm with the power iteration in the order of the published programs: first v from u, then u from v.

torch's own `parametrizations.spectral_norm` computes u first, and does 15 iterations before the first forward.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize


class SpectralNorm(nn.Module):
    """Divides a weight by an estimate of its largest singular value (Miyato et al. 2018, arXiv:1802.05957).

    The weight is taken as a matrix W of (outputs, everything else). In training mode, each use of the weight does one
    iteration: v = W^T u / |W^T u|, then u = W v / |W v|; the estimate is u^T W v, and u and v are constants for the
    gradient. In evaluation mode nothing is kept: with `stored_v` the vectors of the last iteration are used as they are
    (the hooks of PyTorch, which mimicry has), without it an iteration is done from u (BigGAN-PyTorch, and the dense
    layers of mimicry). `eps` is the least norm that a vector is divided by.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, *, stored_v: bool, eps: float = 1e-12) -> None:
        super().__init__()
        self.eps, self.stored_v = eps, stored_v
        rows = weight.flatten(1)
        self.register_buffer("_u", torch.randn(rows.shape[0], dtype=weight.dtype))
        if stored_v:
            self._u = F.normalize(self._u, dim=0)
            self.register_buffer("_v", F.normalize(torch.randn(rows.shape[1], dtype=weight.dtype), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, of any shape, divided by the estimate."""
        rows = weight.flatten(1)
        if not self.training and self.stored_v:
            left, right = self._u, self._v
        else:
            left, right = self._iterate(rows)
        # clones: the buffers change in place before the gradient is computed
        sigma = torch.dot(left.clone(), torch.mv(rows, right.clone()))
        return weight / sigma

    @torch.no_grad()
    def _iterate(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        right = F.normalize(torch.mv(rows.t(), self._u), dim=0, eps=self.eps)
        left = F.normalize(torch.mv(rows, right), dim=0, eps=self.eps)
        if self.training:
            self._u.copy_(left)
            if self.stored_v:
                self._v.copy_(right)
        return left, right


def spectral_norm(layer: nn.Module, *, stored_v: bool = False, eps: float = 1e-12) -> nn.Module:
    """The layer with `SpectralNorm` on its weight."""
    weight = layer.get_parameter("weight")
    parametrize.register_parametrization(layer, "weight", SpectralNorm(weight, stored_v=stored_v, eps=eps))
    return layer
