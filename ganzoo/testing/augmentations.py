"""Checks of an augmentation."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.contract.components import Augmentation
from ganzoo.engine import seeds
from ganzoo.testing.kit import ExaminedPart, Failed, require
from ganzoo.testing.play import captured_is_eager, resumes_bit_for_bit

_SHAPES = ((16, 1, 8, 8), (4, 3, 16, 16), (1, 3, 28, 20))


def _images(shape: tuple[int, ...] = _SHAPES[0]) -> Tensor:
    """Images in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _changed(augmentation: Augmentation, images: Tensor, seed: int = 0) -> Tensor:
    seeds.reseed(seed, "augmentation")
    answer: Tensor = augmentation(images)
    return answer


def shape_is_kept(part: ExaminedPart) -> None:
    """Images of any size and number of channels keep shape and dtype, and stay finite."""
    augmentation = part.build()
    for shape in _SHAPES:
        answer = _changed(augmentation, _images(shape))
        require(answer.shape == shape, f"Images of shape {shape} become {tuple(answer.shape)}.")
        require(answer.dtype == torch.float32, f"float32 images become {answer.dtype}.")
        require(answer.isfinite().all(), f"Images of shape {shape} become NaN or infinite.")


def images_are_changed(part: ExaminedPart) -> None:
    """It does something: of 16 images not all come out as they went in."""
    images = _images()
    require(not torch.equal(_changed(part.build(), images.clone()), images), "Images come out as they went in.")


def gradient_goes_through(part: ExaminedPart) -> None:
    """It can be differentiated, twice: the generator learns through it, and so do penalties."""
    images = _images().requires_grad_()
    answer = _changed(part.build(), images)
    require(answer.requires_grad, "Its images carry no gradient back to those it was given.")
    weights = torch.ones_like(answer, requires_grad=True)
    (gradient,) = torch.autograd.grad((answer * weights).square().sum(), images, create_graph=True)
    require(
        gradient.isfinite().all() and gradient.any(), "The gradient of its images is zero everywhere, or not finite."
    )
    try:
        (second,) = torch.autograd.grad(gradient.square().sum(), weights)
    except RuntimeError as error:
        raise Failed(f"Its gradient cannot be differentiated again: {str(error).splitlines()[0]}") from error
    require(second.isfinite().all() and second.any(), "The gradient of its gradient is zero everywhere, or not finite.")


def one_seed_one_change(part: ExaminedPart) -> None:
    """What it draws comes from the global generators: the same random state gives the same images."""
    images = _images()
    alike = torch.equal(_changed(part.build(), images.clone()), _changed(part.build(), images.clone()))
    require(alike, "Under one random state the same images come out differently.")


def images_are_left_alone(part: ExaminedPart) -> None:
    """The images it is given are not changed in place: the reals are needed again."""
    images = _images()
    given = images.clone()
    _changed(part.build(), given)
    require(torch.equal(given, images), "It changes the images it is given in place.")


def runs_on_any_device(part: ExaminedPart) -> None:
    """On another device (`meta`, which every machine has) it runs: draws are made there, and no values are read."""
    try:
        answer = part.build().to("meta")(_images().to("meta"))
    except Exception as error:
        words = str(error).strip().partition("\n")[0]
        raise Failed(f"On another device it fails: {words[:200]}") from error
    require(answer.device.type == "meta", f"Images of another device come back on {answer.device}.")


CHECKS = (
    shape_is_kept,
    images_are_changed,
    gradient_goes_through,
    one_seed_one_change,
    images_are_left_alone,
    runs_on_any_device,
    resumes_bit_for_bit,
    captured_is_eager,
)
