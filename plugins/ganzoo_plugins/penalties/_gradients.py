"""Gradients of the discriminator with respect to images, for gradient penalties."""

from __future__ import annotations

import torch
from torch import Tensor

import ganzoo


def image_gradients(logits: Tensor, images: Tensor) -> Tensor:
    """Gradient (N, C, H, W) of each image's logits, which are added; it can be differentiated again.

    `logits` are (N, ...) and were computed from `images` (N, C, H, W), which require gradients.
    """
    # gradients have the dtype of the images: float32, also where the network computes in bfloat16
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients


def norm_penalty(round: ganzoo.Round, points: Tensor, target: float, eps: float = 0.0) -> Tensor:
    """E (||grad D(x)|| - target)^2 over `points` x (N, C, H, W), a scalar; one more forward of the discriminator.

    With `eps`, the norm is the root of eps plus the sum of squares.
    """
    points = points.detach().requires_grad_()
    if isinstance(eps, Tensor) or eps:
        squares = image_gradients(round.discriminate(points), points).square().sum(dim=(1, 2, 3))
        return ((squares + eps).sqrt() - target).square().mean()
    # the gradient of vector_norm at 0 is 0; that of the root of a sum of squares would be NaN
    norms: Tensor = torch.linalg.vector_norm(image_gradients(round.discriminate(points), points), dim=(1, 2, 3))
    return (norms - target).square().mean()
