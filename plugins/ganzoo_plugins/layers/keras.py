"""Layers of Keras 2 that differ from those of PyTorch in padding, batch norm, memory order or initial weights.

Images are (N, C, H, W) here and (N, H, W, C) in Keras. Kernels are those of Keras with the axes permuted, and not
flipped.

The convolutions take images that are mirrored, top to bottom and left to right, and they mirror their kernels:
networks call `mirror` before and after a sequence of them. The reason is padding: where the number of padding pixels is
odd, Keras puts one more at the bottom and right. Without copying every image PyTorch can only put one more at the top
and left, which is the same for mirrored images.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo_plugins.layers import fourier

#: divisor of a batch's variance in the moving variance: N, or N - 1 as in PyTorch and in TensorFlow's fused kernel
MovingVariance = Literal["population", "corrected"]


class Dense(nn.Linear):
    """Dense: Glorot uniform weights, zero biases."""

    def reset_parameters(self) -> None:
        """Keras's initial values."""
        _glorot(self)


class SameConv2d(nn.Conv2d):
    """Conv2D with SAME padding, of mirrored images: ceil(size / stride) outputs, odd padding at the top and left.

    The sides of the kernel must be odd, or the stride more than 1.
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
        # the same padding at the bottom and right is at most one pixel more than SAME, which adds no output
        return fourier.conv2d(images, mirror(self.weight), self.bias, self.stride[0], (top, left))


class SameConvTranspose2d(nn.ConvTranspose2d):
    """Conv2DTranspose with SAME padding, of mirrored images: size * stride outputs, cropped at the top and left.

    The sides of the kernel must be odd, or the stride more than 1. With stride 1 the padding is symmetric, and then
    images need not be `mirrored`.
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
        # the padding of the convolution whose transpose this is; the input of that is the larger image
        top, bottom = _same_pads(height, self.kernel_size[0], self.stride[0])
        left, right = _same_pads(width, self.kernel_size[1], self.stride[1])
        kernel, more = mirror(self.weight) if self.mirrored else self.weight, (top - bottom, left - right)
        return fourier.conv_transpose2d(images, kernel, self.bias, self.stride[0], (top, left), more)


class UpsampledSameConvTranspose2d(SameConvTranspose2d):
    """UpSampling2D by 2 (nearest), then Conv2DTranspose with SAME padding and stride 1, of mirrored images.

    Each kernel weight is multiplied with each pixel twice in either direction. So both layers are one transposed
    convolution of stride 2, whose weights are sums over 2x2: 36 products for a kernel of 5x5, instead of 25 for each of
    four pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, in, H, W) -> (N, out, 2 H, 2 W)."""
        pads = tuple(_same_pads(2 * n, k, 1)[0] for n, k in zip(images.shape[2:], self.kernel_size, strict=True))
        kernel = 4 * F.avg_pool2d(F.pad(mirror(self.weight), (1, 1, 1, 1)), 2, 1)  # ONNX has no divisor_override
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
        """The same shape: normalised by the batch statistics in training mode, else by the moving statistics."""
        count = _world_size() * values.numel() // values.shape[1]
        if self.training and (self.moving_variance == "population" or count == 1):
            return self._population(values, count)
        return self._normalise(values, self.running_mean, self.running_var, 1 - self.momentum)

    def _population(self, values: Tensor, count: int) -> Tensor:
        # with momentum 1 the kernel stores the statistics of the batch, with the variance divided by count - 1
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        normalised = self._normalise(values, mean, variance, 1.0)
        population = variance * ((count - 1) / count) if count > 1 else torch.zeros_like(variance)
        self.running_mean.lerp_(mean, 1 - self.momentum)
        self.running_var.lerp_(population, 1 - self.momentum)
        return normalised

    def _normalise(self, values: Tensor, mean: Tensor, variance: Tensor, share: float) -> Tensor:
        # not F.batch_norm, which refuses a batch of one. Keras allows it, and the last batch of an epoch may have one
        return torch.batch_norm(
            values, self.weight, self.bias, mean, variance, self.training, share, self.eps, torch.backends.cudnn.enabled
        )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"{len(self.weight)}, momentum={self.momentum}, moving_variance={self.moving_variance!r}, eps={self.eps}"


def _world_size() -> int:
    """Number of processes that train together; batch norm uses the images of all. Each has the same number."""
    return dist.get_world_size() if dist.is_initialized() else 1


def mirror(images: Tensor) -> Tensor:
    """(N, C, H, W), mirrored top to bottom and left to right; mirroring twice restores the images."""
    return images.flip(2, 3)


def flatten(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H * W * C), channels fastest as in Keras; no copy if the memory is channels_last."""
    return images.permute(0, 2, 3, 1).flatten(1)


def unflatten(values: Tensor, height: int, width: int) -> Tensor:
    """(N, H * W * C), channels fastest -> (N, C, H, W) in the memory format channels_last."""
    return values.reshape(values.shape[0], height, width, -1).permute(0, 3, 1, 2)


def _same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after an axis of mirrored images, with which a convolution has ceil(size / stride) outputs."""
    if stride == 1 and kernel % 2 == 0:
        raise ValueError(f"A kernel of {kernel} without a stride cannot be mirrored; take an odd one.")
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return -(-total // 2), total // 2


def _glorot(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
