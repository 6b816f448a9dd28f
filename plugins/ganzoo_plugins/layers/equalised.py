"""Layers of StyleGAN2: weights scaled when they are used, bilinear resampling, convolutions modulated by a style.

Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (arXiv:1912.04958). Weights start as
standard normal numbers and are scaled in the forward pass ("equalised learning rate", Karras et al. 2018,
arXiv:1710.10196).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: gain of LeakyReLU, so that it keeps the variance
ROOT2 = math.sqrt(2)
_SLOPE = 0.2
_EPS = 1e-8


class Dense(nn.Module):
    """A linear map (N, inputs) -> (N, outputs), with LeakyReLU times sqrt(2) if `active`.

    `rate` multiplies the learning rate of weights and bias: weights start with deviation 1 / rate, and both are
    multiplied by it in the forward pass.
    """

    def __init__(
        self, inputs: int, outputs: int, *, rate: float = 1.0, bias: float = 0.0, active: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.gain, self.rate, self.active = rate / math.sqrt(inputs), rate, active

    def forward(self, features: Tensor) -> Tensor:
        """Weights times `rate` / sqrt(inputs), bias times `rate`."""
        outputs = F.linear(features, self.weight * self.gain, self.bias * self.rate)
        return F.leaky_relu(outputs, _SLOPE) * ROOT2 if self.active else outputs

    def of_classes(self, labels: Tensor) -> Tensor:
        """The outputs (N, outputs) for the one-hot codes of labels (N,)."""
        return F.embedding(labels, self.weight.t() * self.gain) + self.bias * self.rate


class Conv(nn.Module):
    """A convolution (N, inputs, H, W) -> (N, outputs, H, W), or half that size: a filter comes before the stride.

    Without `active` it is linear and has no bias. `gain` multiplies its outputs; they are clamped to `clamp` times
    `gain` (0: not clamped).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        halve: bool = False,
        active: bool = True,
        gain: float = 1.0,
        clamp: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if active else None
        self.scale = 1 / math.sqrt(inputs * size**2)
        self.size, self.halve, self.gain, self.clamp = size, halve, gain, clamp * gain

    def forward(self, features: Tensor) -> Tensor:
        """Weights divided by sqrt(inputs times taps)."""
        weight = self.weight * self.scale
        if not self.halve:
            features = F.conv2d(features, weight, self.bias, padding=self.size // 2)
        elif self.size == 1:
            features = F.conv2d(smooth(features, padding=1, stride=2), weight, self.bias)
        else:
            features = F.conv2d(smooth(features, padding=2), weight, self.bias, stride=2)
        if self.bias is not None:
            features = F.leaky_relu(features, _SLOPE)
        return clamped(features * (self.gain * (1.0 if self.bias is None else ROOT2)), self.clamp)


class StyleConv(nn.Module):
    """A 3x3 convolution whose input channels are scaled by a style, then demodulated, with noise, bias, LeakyReLU.

    Features (N, inputs, H, W) and a row of styles (N, styles) -> (N, outputs, size, size), where H is `size`, or half
    of it with `doubling`. Karras et al. 2020 (arXiv:1912.04958), section 2.2, equations 1 and 3: dividing by the norm
    of the scaled weights replaces instance normalisation.
    """

    noise_const: Tensor

    def __init__(
        self, inputs: int, outputs: int, styles: int, size: int, *, doubling: bool, clamp: float = 0.0
    ) -> None:
        super().__init__()
        self.affine = Dense(styles, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size, size))
        self.size, self.doubling, self.clamp = size, doubling, clamp

    def forward(self, features: Tensor, row: Tensor, noise: str) -> Tensor:
        """`noise`: `random`, one map for each image; `constant`, the stored map; or `none`."""
        style = self.affine(row)
        # the norm of weight times style over inputs and taps, without the weights of each image
        squares = self.weight.square().sum(dim=(2, 3)).t()  # (inputs, outputs)
        norm = (style.square() @ squares + _EPS).rsqrt()
        features = features * style[:, :, None, None]
        if self.doubling:
            features = F.conv_transpose2d(features, self.weight.transpose(0, 1), stride=2)  # (N, outputs, 2H + 1, ...)
            features = smooth(features, padding=1, gain=4)
        else:
            features = F.conv2d(features, self.weight, padding=1)
        features = features * norm[:, :, None, None]
        if noise != "none":
            features = features + self._noise(features, noise) * self.noise_strength
        features = F.leaky_relu(features + self.bias[:, None, None], _SLOPE) * ROOT2
        return clamped(features, self.clamp)

    def _noise(self, features: Tensor, noise: str) -> Tensor:
        return self.noise_const if noise == "constant" else noise_maps(features, self.size)


class ToImage(nn.Module):
    """A 1x1 convolution modulated by a style, without demodulation: features (N, C, H, W) -> images (N, K, H, W)."""

    def __init__(self, inputs: int, channels: int, styles: int, *, clamp: float = 0.0) -> None:
        super().__init__()
        self.affine = Dense(styles, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale, self.clamp = 1 / math.sqrt(inputs), clamp

    def forward(self, features: Tensor, row: Tensor) -> Tensor:
        """The style is divided by sqrt(inputs)."""
        style = self.affine(row) * self.scale
        return clamped(F.conv2d(features * style[:, :, None, None], self.weight, self.bias), self.clamp)


def noise_maps(features: Tensor, size: int) -> Tensor:
    """(N, 1, size, size) standard normal numbers for features (N, C, size, size)."""
    return torch.randn(features.shape[0], 1, size, size, dtype=features.dtype, device=features.device)


def unit(features: Tensor) -> Tensor:
    """Features (N, C) divided by the root of their mean square."""
    return features * (features.square().mean(dim=1, keepdim=True) + _EPS).rsqrt()


def clamped(features: Tensor, limit: float) -> Tensor:
    """Features clamped to -limit..limit; 0: as they are."""
    return features.clamp(-limit, limit) if limit else features


def smooth(features: Tensor, *, padding: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Every channel filtered by (1, 3, 3, 1) / 8 along both axes, zeros beyond the border, times `gain`."""
    return F.conv2d(features, _kernel(features, gain), stride=stride, padding=padding, groups=features.shape[1])


def doubled(images: Tensor) -> Tensor:
    """Images (N, C, H, W) -> (N, C, 2 H, 2 W), by the same filter."""
    return F.conv_transpose2d(images, _kernel(images, 4), stride=2, padding=1, groups=images.shape[1])


def _kernel(features: Tensor, gain: float) -> Tensor:
    """(C, 1, 4, 4), built from Python numbers: no buffer of the network, and no tensor that is copied to a device."""
    line = torch.arange(4, dtype=features.dtype, device=features.device)
    line = (1 + line * (3 - line)) / 8  # 1, 3, 3, 1 over 8
    return (torch.outer(line, line) * gain).expand(features.shape[1], 1, 4, 4)
