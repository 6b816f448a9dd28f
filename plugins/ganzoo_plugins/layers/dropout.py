"""Dropout whose mask costs little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: values of 16 random bits
_VALUES = 1 << 16


class Dropout(nn.Dropout):
    """Dropout as PyTorch's (Srivastava et al. 2014); on a CPU the mask is drawn 16 bits an element, not by Bernoulli.

    PyTorch draws a CPU's mask one number after the other: 18 to 20 % of the tutorial's step. Here one call of the same
    generator fills the memory with random bits, and an element stays if its 16 fall below a threshold. So the share
    that stays is a multiple of 2^-16, and what stays is divided by just that share: the expectation is exact. The
    masks are others than those of `nn.Dropout` under the same seed; their source is torch's generator all the same, so
    a resumed run draws them again.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The same shape; in inference mode the values themselves."""
        if input.is_cuda or not self.training or not self.p:
            return super().forward(input)
        return input * keep_mask(input, 1 - self.p)


def keep_mask(like: Tensor, share: float) -> Tensor:
    """A tensor like `like` of zeros and, for about this share of the elements, one over the share; on the CPU."""
    mask = torch.empty_like(like)  # dense, in the order of `like`
    threshold = max(1, round(share * _VALUES))
    bits = torch.empty(-(-mask.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    bits = bits[: mask.numel()].as_strided(mask.shape, mask.stride())
    return torch.lt(bits, threshold - _VALUES // 2, out=mask).mul_(_VALUES / threshold)
