"""Checks of an augmentation."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.contract.components import Augmentation
from ganzoo.engine import seeds
from ganzoo.testing.kit import ExaminedPart, Failed, require
from ganzoo.testing.small_game import captured_is_eager, resumes_bit_for_bit

_SHAPES = ((16, 1, 8, 8), (4, 3, 16, 16), (1, 3, 28, 20))


def _images(shape: tuple[int, ...] = _SHAPES[0]) -> Tensor:
    """Images in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _changed(augmentation: Augmentation, images: Tensor, seed: int = 0) -> Tensor:
    seeds.reseed(seed, "augmentation")
    output: Tensor = augmentation(images)
    return output


def shape_is_kept(part: ExaminedPart) -> None:
    """Images of any size and any number of channels keep their shape and dtype, and stay finite."""
    augmentation = part.build()
    for shape in _SHAPES:
        output = _changed(augmentation, _images(shape))
        require(output.shape == shape, f"Images of shape {shape} become {tuple(output.shape)}.")
        require(output.dtype == torch.float32, f"float32 images become {output.dtype}.")
        require(output.isfinite().all(), f"Images of shape {shape} become NaN or infinite.")


def images_are_changed(part: ExaminedPart) -> None:
    """It changes at least one of 16 images."""
    images = _images()
    require(not torch.equal(_changed(part.build(), images.clone()), images), "It returns all images unchanged.")


def gradient_goes_through(part: ExaminedPart) -> None:
    """It can be differentiated twice: the generator learns through it, and gradient penalties differentiate again."""
    images = _images().requires_grad_()
    output = _changed(part.build(), images)
    require(output.requires_grad, "No gradient flows from its output back to its input.")
    weights = torch.ones_like(output, requires_grad=True)
    (gradient,) = torch.autograd.grad((output * weights).square().sum(), images, create_graph=True)
    require(
        gradient.isfinite().all() and gradient.any(), "The gradient of its output is zero everywhere, or not finite."
    )
    try:
        (second,) = torch.autograd.grad(gradient.square().sum(), weights)
    except RuntimeError as error:
        raise Failed(f"Its gradient cannot be differentiated again: {str(error).splitlines()[0]}") from error
    require(second.isfinite().all() and second.any(), "The gradient of its gradient is zero everywhere, or not finite.")


def same_seed_same_images(part: ExaminedPart) -> None:
    """It draws from the global random generators: the same random state gives the same images."""
    images = _images()
    alike = torch.equal(_changed(part.build(), images.clone()), _changed(part.build(), images.clone()))
    require(alike, "With the same random state, the same images give different results.")


def images_are_left_alone(part: ExaminedPart) -> None:
    """It does not change its input in place: the real images are used again."""
    images = _images()
    given = images.clone()
    _changed(part.build(), given)
    require(torch.equal(given, images), "It changes its input in place.")


def runs_on_any_device(part: ExaminedPart) -> None:
    """It runs on another device (`meta`, which every machine has): it draws there and reads no values."""
    try:
        output = part.build().to("meta")(_images().to("meta"))
    except Exception as error:
        words = str(error).strip().partition("\n")[0]
        raise Failed(f"On another device it fails: {words[:200]}") from error
    require(output.device.type == "meta", f"Its output for images on another device is on {output.device}.")


CHECKS = (
    shape_is_kept,
    images_are_changed,
    gradient_goes_through,
    same_seed_same_images,
    images_are_left_alone,
    runs_on_any_device,
    resumes_bit_for_bit,
    captured_is_eager,
)
