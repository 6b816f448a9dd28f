"""Dropout with a mask that is quick to draw on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: values of 16 random bits
_VALUES = 1 << 16


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) as in PyTorch, but with a faster mask on a CPU: 16 random bits an element.

    On a CPU PyTorch draws the mask element by element, which takes 18 to 20 % of a step of `dcgan-tutorial`. Here one
    call of the same generator fills the memory with random bits, and an element is kept if its 16 bits are below a
    threshold. So the share of elements that are kept is a multiple of 2^-16. Kept elements are divided by exactly this
    share, so the expectation is exact. The masks differ from those of `nn.Dropout` with the same seed. They come from
    torch's global generator too, so a resumed run draws the same ones.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The same shape; in inference mode the input itself."""
        if self._is_plain(input):
            return super().forward(input)
        return input * keep_mask(input, 1 - self.p)

    def _is_plain(self, input: Tensor) -> bool:
        """Whether to use PyTorch's own dropout: on other devices, in inference mode, in compiled code."""
        plain = input.device.type != "cpu" or not 0 < self.p < 1 or torch.compiler.is_compiling()
        return plain or not self.training


class LeakyReLUDropout(Dropout):
    """LeakyReLU, then dropout, in place: the input is overwritten, so no other code may need it.

    On a CPU both together are one multiplication by a tensor, and so is the gradient: most of the time is memory
    access.
    """

    def __init__(self, negative_slope: float, p: float) -> None:
        super().__init__(p)
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        """The same shape, in the memory of the input."""
        if self._is_plain(input):
            return super().forward(F.leaky_relu_(input, self.negative_slope))
        # the gradient of LeakyReLU applied to the mask: the mask, times the slope where a value is negative
        mask = keep_mask(input, 1 - self.p)
        return input.mul_(torch.ops.aten.leaky_relu_backward(mask, input.detach(), self.negative_slope, False))

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"negative_slope={self.negative_slope}, p={self.p}"


def keep_mask(like: Tensor, share: float) -> Tensor:
    """A CPU tensor with the shape and layout of `like`: a random `share` of the elements is 1 / share, the others 0."""
    mask = torch.empty_like(like)  # dense, in the order of `like`
    # of 16 bits; at least one of their values is kept, and at least one is dropped
    threshold = min(max(1, round(share * _VALUES)), _VALUES - 1)
    bits = torch.empty(-(-mask.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    bits = bits[: mask.numel()].as_strided(mask.shape, mask.stride())
    return torch.lt(bits, threshold - _VALUES // 2, out=mask).mul_(_VALUES / threshold)
