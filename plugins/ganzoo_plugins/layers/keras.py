"""Layers that compute what Keras 2 computes where PyTorch does not: padding, batch norm, memory order, first weights.

Images are (N, C, H, W) here and (N, H, W, C) in Keras; kernels are those of Keras with the axes permuted, nothing
flipped.

The convolutions are of mirrored images, top to bottom and left to right, and mirror their kernels: networks call
`mirror` at both ends of a row of them. Keras puts the odd pixel of padding at the bottom and right, and what PyTorch
can do without copying every image is to put it at the top and left, which in the mirror is the same thing.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo_plugins.layers import fourier

#: how a batch's variance enters the moving one: divided by N, or by N - 1 as PyTorch and TensorFlow's fused kernel do
MovingVariance = Literal["population", "corrected"]


class Dense(nn.Linear):
    """Dense: glorot uniform weights, zero biases."""

    def reset_parameters(self) -> None:
        """Keras's initial values."""
        _glorot(self)


class SameConv2d(nn.Conv2d):
    """Conv2D with SAME padding, of mirrored images: ceil(size / stride) outputs, the odd pixel at the top and left.

    The kernel's sides are odd, or there is a stride.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias=bias)

    def reset_parameters(self) -> None:
        """Keras's initial values."""
        _glorot(self)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))."""
        top, _ = _same_pads(images.shape[2], self.kernel_size[0], self.stride[0])
        left, _ = _same_pads(images.shape[3], self.kernel_size[1], self.stride[1])
        # as much at the other end is one pixel too many at most, which starts no further window
        return fourier.conv2d(images, mirror(self.weight), self.bias, self.stride[0], (top, left))


class SameConvTranspose2d(nn.ConvTranspose2d):
    """Conv2DTranspose with SAME padding, of mirrored images: size * stride outputs, cropped at the top and left.

    The kernel's sides are odd, or there is a stride. Without a stride padding is even, and images that are not
    `mirrored` can be had as well.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        bias: bool = True,
        mirrored: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias=bias)
        self.mirrored = mirrored

    def reset_parameters(self) -> None:
        """Keras's initial values."""
        _glorot(self)

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, in, H, W) -> (N, out, H * stride, W * stride)."""
        height, width = images.shape[2] * self.stride[0], images.shape[3] * self.stride[1]
        # the pads of the convolution that it is the transpose of, whose input is the larger image
        top, bottom = _same_pads(height, self.kernel_size[0], self.stride[0])
        left, right = _same_pads(width, self.kernel_size[1], self.stride[1])
        kernel, more = mirror(self.weight) if self.mirrored else self.weight, (top - bottom, left - right)
        return fourier.conv_transpose2d(images, kernel, self.bias, self.stride[0], (top, left), more)


class UpsampledSameConvTranspose2d(SameConvTranspose2d):
    """UpSampling2D by 2, nearest, and Conv2DTranspose with SAME padding and no stride, of mirrored images.

    A tap meets each pixel twice in every direction, so both are one transposed convolution of stride 2, whose taps are
    sums of two by two: 36 for a kernel of 5x5, in place of 25 for each of four pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, in, H, W) -> (N, out, 2 H, 2 W)."""
        pads = tuple(_same_pads(2 * n, k, 1)[0] for n, k in zip(images.shape[2:], self.kernel_size, strict=True))
        kernel = F.avg_pool2d(F.pad(mirror(self.weight), (1, 1, 1, 1)), 2, 1, divisor_override=1)
        return fourier.conv_transpose2d(images, kernel, self.bias, 2, (pads[0], pads[1]), (0, 0))


class BatchNorm(nn.Module):
    """BatchNormalization over axis 1 of (N, C) or (N, C, H, W): eps 1e-3, `momentum` is the share of the old value."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, momentum: float, moving_variance: MovingVariance, eps: float = 1e-3) -> None:
        super().__init__()
        self.momentum, self.moving_variance, self.eps = momentum, moving_variance, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, values: Tensor) -> Tensor:
        """The same shape: normalised by the batch while training, by the moving statistics else."""
        count = _ranks() * values.numel() // values.shape[1]
        if self.training and (self.moving_variance == "population" or count == 1):
            return self._population(values, count)
        return self._normalise(values, self.running_mean, self.running_var, 1 - self.momentum)

    def _population(self, values: Tensor, count: int) -> Tensor:
        # with momentum 1 the kernel leaves the batch's own statistics behind, the variance divided by count - 1
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        normalised = self._normalise(values, mean, variance, 1.0)
        population = variance * ((count - 1) / count) if count > 1 else torch.zeros_like(variance)
        self.running_mean.lerp_(mean, 1 - self.momentum)
        self.running_var.lerp_(population, 1 - self.momentum)
        return normalised

    def _normalise(self, values: Tensor, mean: Tensor, variance: Tensor, share: float) -> Tensor:
        # not F.batch_norm: it refuses a batch of one, which Keras trains on and an epoch may end with
        return torch.batch_norm(
            values, self.weight, self.bias, mean, variance, self.training, share, self.eps, torch.backends.cudnn.enabled
        )

    def extra_repr(self) -> str:
        """What the constructor was given."""
        return f"{len(self.weight)}, momentum={self.momentum}, moving_variance={self.moving_variance!r}, eps={self.eps}"


def _ranks() -> int:
    """Processes that train together: batch norm takes the statistics of all their images, of which each has as many."""
    return dist.get_world_size() if dist.is_initialized() else 1


def mirror(images: Tensor) -> Tensor:
    """(N, C, H, W) top to bottom and left to right; twice is not at all."""
    return images.flip(2, 3)


def flatten(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H * W * C), channels fastest as in Keras; no copy where memory is channels_last."""
    return images.permute(0, 2, 3, 1).flatten(1)


def unflatten(values: Tensor, height: int, width: int) -> Tensor:
    """(N, H * W * C), channels fastest -> (N, C, H, W), in channels_last memory."""
    return values.reshape(len(values), height, width, -1).permute(0, 3, 1, 2)


def _same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after an axis of `size`, mirrored, so that a strided convolution gives ceil(size / stride)."""
    if stride == 1 and kernel % 2 == 0:
        raise ValueError(f"A kernel of {kernel} without a stride cannot be mirrored; take an odd one.")
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return -(-total // 2), total // 2


def _glorot(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
