"""Faulty augmentations."""

from __future__ import annotations

import random

import torch
from torch import Tensor

import ganzoo


class Good(ganzoo.Augmentation):
    """Random contrast."""

    def forward(self, images: Tensor) -> Tensor:
        return images * (0.5 + torch.rand(len(images), 1, 1, 1, device=images.device))


class Turning(Good):
    """Turns images, which changes the shape unless they are square."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).transpose(2, 3)


class Nothing(Good):
    """No change at all."""

    def forward(self, images: Tensor) -> Tensor:
        return images


class Rounding(Good):
    """Fewer grey levels, without a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).mul(8).round() / 8


class Urandom(Good):
    """Draws random numbers from the operating system."""

    def forward(self, images: Tensor) -> Tensor:
        return images * (0.5 + random.SystemRandom().random())


class InPlace(Good):
    """Also darkens its input in place."""

    def forward(self, images: Tensor) -> Tensor:
        images.data.mul_(0.9)
        return super().forward(images)


class OnTheHost(Good):
    """Draws on the CPU, also for images on another device."""

    def forward(self, images: Tensor) -> Tensor:
        return images * (0.5 + torch.rand(len(images), 1, 1, 1))


class Growing(Good):
    """A factor that grows with a counter outside the state."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images) * (1 + 0.1 * self.calls)


class HostNoise(Good):
    """A number that the host draws in every step; a recorded step repeats the same one."""

    def forward(self, images: Tensor) -> Tensor:
        return images * (0.5 + random.random())


MUTANTS = {
    "shape_is_kept": Turning,
    "images_are_changed": Nothing,
    "gradient_goes_through": Rounding,
    "same_seed_same_images": Urandom,
    "images_are_left_alone": InPlace,
    "runs_on_any_device": OnTheHost,
    "resumes_bit_for_bit": Growing,
    "captured_is_eager": HostNoise,
}
#: numbers from the operating system cannot be drawn again after a resume
ALSO = {"same_seed_same_images": {"resumes_bit_for_bit"}}
