"""Dropout whose mask costs little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        if self._is_plain(input):
            return super().forward(input)
        return input * keep_mask(input, 1 - self.p)

    def _is_plain(self, input: Tensor) -> bool:
        """Whether PyTorch's own dropout serves as well: on another device, in inference, in code that is compiled."""
        plain = input.device.type != "cpu" or not 0 < self.p < 1 or torch.compiler.is_compiling()
        return plain or not self.training


class LeakyReLUDropout(Dropout):
    """LeakyReLU, then dropout, of values that nobody else needs: they are overwritten.

    On a CPU both are one product with one number an element, and so is their gradient: memory is what they cost.
    """

    def __init__(self, negative_slope: float, p: float) -> None:
        super().__init__(p)
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        """The same shape."""
        if self._is_plain(input):
            return super().forward(F.leaky_relu_(input, self.negative_slope))
        # the gradient of LeakyReLU, of the mask: the slope where a value is negative, one elsewhere, times the mask
        mask = keep_mask(input, 1 - self.p)
        return input.mul_(torch.ops.aten.leaky_relu_backward(mask, input.detach(), self.negative_slope, False))

    def extra_repr(self) -> str:
        """What the constructor was given."""
        return f"negative_slope={self.negative_slope}, p={self.p}"


def keep_mask(like: Tensor, share: float) -> Tensor:
    """A tensor like `like` of zeros and, for about this share of the elements, one over the share; on the CPU."""
    mask = torch.empty_like(like)  # dense, in the order of `like`
    threshold = min(max(1, round(share * _VALUES)), _VALUES - 1)  # of 16 bits, and none is all
    bits = torch.empty(-(-mask.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    bits = bits[: mask.numel()].as_strided(mask.shape, mask.stride())
    return torch.lt(bits, threshold - _VALUES // 2, out=mask).mul_(_VALUES / threshold)
