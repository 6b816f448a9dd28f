"""Affine transformations of images without aliasing, differentiable twice in the images.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (arXiv:2006.06676), appendix B: the
images are extended by reflection, doubled with an orthogonal low-pass filter, sampled, and halved with the same filter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: the low-pass filter of the symlet with 6 vanishing moments (Daubechies 1992, "Ten Lectures on Wavelets", section 8.1)
_SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
#: pixels of an image that half of the filter covers
_REACH = len(_SYM6) // 4
Matrix = Tensor


def low_pass() -> Tensor:
    """(12,) float32: the filter, with sum 1."""
    taps = torch.tensor(_SYM6, dtype=torch.float32)
    return taps / taps.sum()


# --- matrices of centred coordinates, (N, 3, 3) or (3, 3) -------------------------------------------------------------


def matrix(rows: list[list[Tensor | float]], like: Tensor) -> Matrix:
    """(..., 3, 3) from rows of numbers and tensors of the shape of `like`."""
    entries = [[x if isinstance(x, Tensor) else torch.full_like(like, x) for x in row] for row in rows]
    return torch.stack([torch.stack(row, dim=-1) for row in entries], dim=-2)


def translation(x: Tensor, y: Tensor) -> Matrix:
    """Moves by (x, y)."""
    return matrix([[1, 0, x], [0, 1, y], [0, 0, 1]], x)


def scaling(x: Tensor, y: Tensor) -> Matrix:
    """Multiplies both coordinates."""
    return matrix([[x, 0, 0], [0, y, 0], [0, 0, 1]], x)


def rotation(angle: Tensor) -> Matrix:
    """Rotates by an angle in radians."""
    cosine, sine = angle.cos(), angle.sin()
    return matrix([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], angle)


# --- the warp ---------------------------------------------------------------------------------------------------------


def warp(images: Tensor, inverse: Matrix, taps: Tensor) -> Tensor:
    """Images (N, C, H, W), where `inverse` (N, 3, 3) leads from a pixel of the result to the pixel it is sampled from.

    Coordinates are pixels from the centre, x first. The images are extended as far as any image of the batch needs, at
    most by their size less one pixel. A CPU extends them by that many pixels. On another device, that number would have
    to be read from it: there they are extended as far as possible, and what is beyond the margins is set to zero.
    """
    height, width = images.shape[2:]
    margins = _margins(inverse, height, width)  # left, top, right, bottom
    taps = taps.to(images.dtype)
    if reads_margins(images):
        left, top, right, bottom = (int(margin) for margin in margins.tolist())
        doubled = _double(F.pad(images, (left, right, top, bottom), mode="reflect"), taps)
    else:
        left = right = width - 1
        top = bottom = height - 1
        kept = _inside(margins, (height, width), images, 1)
        doubled = _double(F.pad(images, (left, right, top, bottom), mode="reflect") * kept, taps)
        doubled = doubled * _inside(margins, (height, width), images, 2)
    zero = inverse.new_zeros(())
    inverse = translation(zero + (left - right) / 2, zero + (top - bottom) / 2) @ inverse
    inverse = scaling(zero + 2, zero + 2) @ inverse @ scaling(zero + 0.5, zero + 0.5)
    inverse = translation(zero - 0.5, zero - 0.5) @ inverse @ translation(zero + 0.5, zero + 0.5)
    size = 2 * (height + 2 * _REACH), 2 * (width + 2 * _REACH)
    inverse = scaling(zero + 2 / doubled.shape[3], zero + 2 / doubled.shape[2]) @ inverse
    inverse = inverse @ scaling(zero + size[1] / 2, zero + size[0] / 2)
    grid = F.affine_grid(inverse[:, :2], [len(images), images.shape[1], *size], align_corners=False)
    return _halve(sample(doubled, grid.to(images.dtype)), taps)


def reads_margins(images: Tensor) -> bool:
    """Whether numbers can be read from the device of the images without waiting for it."""
    return images.device.type == "cpu"


def _margins(inverse: Matrix, height: int, width: int) -> Tensor:
    """(4,): pixels left, top, right and bottom of the images that are needed, over the batch."""
    x, y = (width - 1) / 2, (height - 1) / 2
    one = inverse.new_ones(())
    corners = torch.stack(
        [torch.stack([one * a, one * b, one]) for a, b in ((-x, -y), (x, -y), (x, y), (-x, y))], dim=1
    )
    reached = (inverse @ corners)[:, :2].transpose(0, 1).flatten(1)  # (2, N * 4)
    farthest = torch.cat([(-reached).amax(dim=1), reached.amax(dim=1)])
    shift = torch.stack([one * (2 * _REACH - x), one * (2 * _REACH - y)]).repeat(2)
    most = torch.stack([one * (width - 1), one * (height - 1)]).repeat(2)
    return (farthest + shift).clamp(min=0).minimum(most).ceil()


def _inside(margins: Tensor, size: tuple[int, int], images: Tensor, scale: int) -> Tensor:
    """(rows, columns) 1 within the margins, else 0, for images of `size` that are extended on all sides by size - 1."""
    sides = []
    for axis, length in ((1, size[0]), (0, size[1])):
        places = torch.arange(scale * (3 * length - 2), device=images.device)
        first, last = length - 1 - margins[axis], 2 * length - 1 + margins[axis + 2]
        sides.append((places >= scale * first) & (places < scale * last))
    return (sides[0][:, None] & sides[1]).to(images.dtype)


def _double(images: Tensor, taps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2 H, 2 W): zeros between pixels, then a convolution along each axis."""
    kernel = (2 * taps).expand(images.shape[1], 1, 1, -1)
    images = F.conv_transpose2d(images, kernel, stride=(1, 2), padding=(0, 5), groups=len(kernel))
    kernel = kernel.transpose(2, 3)
    return F.conv_transpose2d(images, kernel, stride=(2, 1), padding=(5, 0), groups=len(kernel))


def _halve(images: Tensor, taps: Tensor) -> Tensor:
    """(N, C, 2 (H + 6), 2 (W + 6)) -> (N, C, H, W): a correlation along each axis, then every second pixel."""
    kernel = taps.expand(images.shape[1], 1, 1, -1)
    images = F.conv2d(images[:, :, 1:-1, 1:-1], kernel, stride=(1, 2), groups=len(kernel))
    return F.conv2d(images, kernel.transpose(2, 3), stride=(2, 1), groups=len(kernel))


# --- sampling ---------------------------------------------------------------------------------------------------------


def sample(images: Tensor, grid: Tensor) -> Tensor:
    """Images (N, C, H, W) sampled bilinearly at `grid` (N, h, w, 2) in [-1, 1], zeros beyond.

    torch.nn.functional.grid_sample cannot be differentiated twice. It is linear in the images, so its gradient is its
    transpose, and the gradient of that is the sampling again. The grid gets no gradient.
    """
    sampled: Tensor = _Sample.apply(images, grid)  # type: ignore[no-untyped-call]
    return sampled


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Transposed.apply(gradients[0], grid, ctx.shape), None  # type: ignore[no-untyped-call]


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        images = values.new_empty(shape)  # its values only matter for the gradient of the grid
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(values, images, grid, 0, 0, False, [True, False])[0]
        return spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(gradients[0], grid), None, None  # type: ignore[no-untyped-call]
