"""Convolutions by the discrete Fourier transform, for float32 on a CPU: faster for small images with many channels.

Mathieu, Henaff, LeCun 2013, "Fast Training of Convolutional Networks through FFTs" (https://arxiv.org/abs/1312.5851),
with matrices instead of an FFT, which is no slower for so few pixels. A convolution is a product at every frequency,
and the product of two complex numbers takes three real products (Gauss). So the whole convolution is

    outputs = C ((A images) * (B kernel)),

with three constant matrices over positions, and for each row of A and B a matrix product over images and channels. A
kernel of 5x5 on images of 7x7 takes 121 of these products where the sum over positions takes 1,225, a third of them
with padding. Both have rounding errors below 1e-6 of the outputs.

A convolution of stride s is one of stride 1 with s * s times the channels: the phases of the larger image, each with
its own part of the kernel ("taps" below are the kernel's weights at one position).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

#: it is used if a direct convolution needs more than this many times its operations
_WORTH = 1.3
#: writing one number to memory and reading it again takes as long as this many multiplications
_MOVE = 30


def conv2d(images: Tensor, kernel: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]) -> Tensor:
    """Same as `F.conv2d`: images (N, C, H, W), kernel (K, C, h, w), bias (K)."""
    (count, channels, *size), places = images.shape, _places(kernel, stride, padding)
    outputs = [(n + 2 * p - k) // stride + 1 for n, p, k in zip(size, padding, kernel.shape[2:], strict=True)]
    rows, columns = (
        # a tap of place q is multiplied with the pixel at offset +q
        _Axis(-(-n // stride), out, range(-q.start, -q.stop, -1))
        for n, out, q in zip(size, outputs, places, strict=True)
    )
    direct = math.prod(outputs) * kernel.numel()
    if not _accepts(images, kernel) or _WORTH * _cost(rows, columns, count, stride**2 * channels, len(kernel)) > direct:
        return F.conv2d(images, kernel, bias, stride, padding)
    if any(n % stride for n in size):
        images = F.pad(images, (0, -size[1] % stride, 0, -size[0] % stride))
    phases = images.permute(0, 2, 3, 1).reshape(count, rows.inputs, stride, columns.inputs, stride, channels)
    phases = phases.transpose(2, 3).reshape(count, rows.inputs * columns.inputs, stride**2 * channels)
    taps = _phases(kernel, places, stride, padding).permute(2, 4, 3, 5, 1, 0).flatten(2, 4).flatten(0, 1)
    features = _convolve(phases, taps, rows, columns).view(count, *outputs, -1)
    return _with_bias(features, bias)


def conv_transpose2d(
    images: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: tuple[int, int],
    output_padding: tuple[int, int],
) -> Tensor:
    """Same as `F.conv_transpose2d`: images (N, C, H, W), kernel (C, K, h, w), bias (K)."""
    (count, channels, *size), places = images.shape, _places(kernel, stride, padding)
    outputs = [
        (n - 1) * stride - 2 * p + k + more
        for n, p, k, more in zip(size, padding, kernel.shape[2:], output_padding, strict=True)
    ]
    rows, columns = (_Axis(n, -(-out // stride), q) for n, out, q in zip(size, outputs, places, strict=True))
    direct, phases = math.prod(size) * kernel.numel(), stride**2 * kernel.shape[1]
    if not _accepts(images, kernel) or _WORTH * _cost(rows, columns, count, channels, phases) > direct:
        return F.conv_transpose2d(images, kernel, bias, stride, padding, output_padding)
    taps = _phases(kernel, places, stride, padding).permute(2, 4, 0, 3, 5, 1).flatten(3).flatten(0, 1)
    features = _convolve(images.permute(0, 2, 3, 1).flatten(1, 2), taps, rows, columns)
    features = features.view(count, rows.outputs, columns.outputs, stride, stride, -1).transpose(2, 3)
    features = features.reshape(count, rows.outputs * stride, columns.outputs * stride, -1)
    return _with_bias(features[:, : outputs[0], : outputs[1]].contiguous(), bias)


class _Axis(NamedTuple):
    """Rows or columns of a convolution of stride 1: outputs[o] = sum over offsets d of inputs[o - d] taps[d]."""

    inputs: int
    outputs: int
    offsets: range

    @property
    def period(self) -> int:
        """The shortest period in which no output depends on a wrapped-around input."""
        low, high = min(self.offsets), max(self.offsets)
        return max(self.outputs - min(low, 0), self.inputs + max(high, 0), len(self.offsets))


def _accepts(images: Tensor, kernel: Tensor) -> bool:
    """Whether these tensors are supported: float32 on a CPU with MKL, for which the speed was measured."""
    # checked first, because the lines below cannot be compiled
    if torch.compiler.is_compiling() or images.device.type != "cpu":
        return False
    mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return mkl and images.dtype == kernel.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _cost(rows: _Axis, columns: _Axis, count: int, channels: int, outputs: int) -> float:
    """Multiplications for one of `count` images, plus the memory traffic in units of multiplications."""
    self_conjugate = math.prod(2 - axis.period % 2 for axis in (rows, columns))  # frequencies f with f = -f
    products = self_conjugate + 3 * (rows.period * columns.period - self_conjugate) // 2
    transforms = rows.inputs * columns.inputs * channels + rows.outputs * columns.outputs * outputs
    kernel = channels * outputs * (len(rows.offsets) * len(columns.offsets) + _MOVE) / max(count, 1)
    return products * (transforms + channels * outputs + _MOVE * (channels + outputs) + kernel)


def _places(kernel: Tensor, stride: int, padding: tuple[int, int]) -> tuple[range, range]:
    """Places q of the taps, for rows and for columns. Tap t has place q and phase r: t - padding = stride * q + r."""
    rows, columns = (
        range(-p // stride, (k - 1 - p) // stride + 1) for k, p in zip(kernel.shape[2:], padding, strict=True)
    )
    return rows, columns


def _phases(kernel: Tensor, places: tuple[range, range], stride: int, padding: tuple[int, int]) -> Tensor:
    """(., ., h, w) -> (., ., places, phases, places, phases) of rows and columns, zeros where there is no tap."""
    before = [-(stride * q.start + p) for q, p in zip(places, padding, strict=True)]
    after = [stride * len(q) - b - k for q, b, k in zip(places, before, kernel.shape[2:], strict=True)]
    whole = F.pad(kernel, (before[1], after[1], before[0], after[0]))
    return whole.view(*kernel.shape[:2], len(places[0]), stride, len(places[1]), stride)


def _convolve(inputs: Tensor, taps: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Inputs (N, positions, C), taps (positions, C, K) -> (N, positions, K). Autograd can differentiate it twice."""
    of_inputs, of_taps, of_outputs = _matrices(rows, columns)
    count = len(inputs)
    spectrum = torch.bmm(of_inputs.expand(count, -1, -1), inputs).transpose(0, 1)
    kernel = torch.mm(of_taps, taps.flatten(1)).view(-1, *taps.shape[1:])
    products = torch.bmm(spectrum, kernel).transpose(0, 1)
    return torch.bmm(of_outputs.expand(count, -1, -1), products)


@lru_cache
def _matrices(rows: _Axis, columns: _Axis) -> tuple[Tensor, Tensor, Tensor]:
    """A (products, inputs), B (products, taps) and C (outputs, products), in float32.

    For a of the images and b of the kernel, P1 = (Re a + Im a) Re b, P2 = Re a (Im b - Re b), P3 = Im a (Re b + Im b),
    Re(ab) = P1 - P3 and Im(ab) = P1 + P2. For a frequency f with f = -f all values are real, so P1 is enough. Of two
    opposite frequencies one is enough, since their values are conjugates.
    """
    # these settings, because the matrices are cached, and later calls may need gradients
    with torch.inference_mode(False), torch.device("cpu"):
        periods = torch.tensor([rows.period, columns.period])
        every = _pairs(range(rows.period), range(columns.period))
        ahead = (every - -every % periods) @ torch.tensor([columns.period, 1])
        # the first `own` frequencies f are those with f = -f
        frequencies, own = torch.cat([every[ahead == 0], every[ahead > 0]]), int((ahead == 0).sum())

        def waves(first: range, second: range) -> tuple[Tensor, Tensor]:
            turns = frequencies / periods.double() @ _pairs(first, second).double().T
            return torch.cos(2 * math.pi * turns), -torch.sin(2 * math.pi * turns)

        real, imaginary = waves(range(rows.inputs), range(columns.inputs))
        of_inputs = torch.cat([real[:own], (real + imaginary)[own:], real[own:], imaginary[own:]])
        real, imaginary = waves(rows.offsets, columns.offsets)
        of_taps = torch.cat([real, (imaginary - real)[own:], (real + imaginary)[own:]])
        real, imaginary = waves(range(rows.outputs), range(columns.outputs))
        of_outputs = torch.cat([real[:own], 2 * (real + imaginary)[own:], 2 * imaginary[own:], -2 * real[own:]])
        return of_inputs.float(), of_taps.float(), (of_outputs / periods.prod()).T.float().contiguous()


def _pairs(first: range, second: range) -> Tensor:
    """All pairs of a value of `first` and a value of `second`, (len(first) * len(second), 2)."""
    return torch.cartesian_prod(torch.tensor(first), torch.tensor(second))


def _with_bias(features: Tensor, bias: Tensor | None) -> Tensor:
    """Features (N, H, W, K), which are overwritten -> (N, K, H, W) in the memory format channels_last."""
    return (features if bias is None else features.add_(bias)).permute(0, 3, 1, 2)
