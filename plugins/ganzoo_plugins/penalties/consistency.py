"""Consistency regularisation: a small change of an image or a latent must not change what the discriminator finds."""

from __future__ import annotations

from typing import Annotated

import click
import torch
from torch import Tensor

import ganzoo

_Weight = click.FloatRange(min=0)


class CR(ganzoo.Loss):
    """Penalty on the difference between the logits of a real and of the same image, flipped and shifted.

    Zhang et al. 2020, "Consistency Regularization for Generative Adversarial Networks" (arXiv:1910.12027), equation 3,
    with the logits as the last layer: weight E (D(x) - D(T(x)))^2 over reals x. T mirrors an image left to right with
    probability 1/2, and shifts it by up to an eighth of its size in each direction, with reflection at the borders.
    The gradient goes through both terms. It needs one more forward of the discriminator. Augmentations of the recipe
    come after T, with random numbers of their own.
    """

    def __init__(self, *, weight: Annotated[float, _Weight, "strength (lambda in the paper)"] = 10.0) -> None:
        super().__init__()
        self.weight = weight

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """weight E (D(x) - D(T(x)))^2 over the reals."""
        return self.weight * _of_reals(round)

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Zero: the penalty does not train the generator."""
        return round.reals.new_zeros(())


class BCR(ganzoo.Loss):
    """Balanced consistency: the penalty of `cr` on reals and on fakes.

    Zhao et al. 2021, "Improved Consistency Regularization for GANs" (arXiv:2002.04724), section 3.1:
    real E (D(x) - D(T(x)))^2 + fake E (D(G(z)) - D(T(G(z))))^2, with D the logits and T that of `cr`. The generator is
    not trained by it. It needs two more forwards of the discriminator.
    """

    def __init__(
        self,
        *,
        real: Annotated[float, _Weight, "strength on reals (lambda_real in the paper)"] = 10.0,
        fake: Annotated[float, _Weight, "strength on fakes (lambda_fake in the paper)"] = 10.0,
    ) -> None:
        super().__init__()
        self.real, self.fake = real, fake

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """The penalties of reals and fakes, each times its strength."""
        changed = flipped_and_shifted(round.fakes.detach())
        difference = round.fake_logits - round.discriminate(changed, round.fake_labels)
        return self.real * _of_reals(round) + self.fake * difference.square().mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """Zero: the penalty does not train the generator."""
        return round.reals.new_zeros(())


class ZCR(ganzoo.Loss):
    """Latent consistency: the discriminator finds images of close latents alike, the generator makes them differ.

    Zhao et al. 2021 (arXiv:2002.04724), section 3.2: the discriminator's loss is
    discriminator_weight E (D(G(z)) - D(G(z + e)))^2, the generator's -generator_weight E (G(z) - G(z + e))^2, with D
    the logits, e normal with deviation `noise`, and means over pixels. Together with `bcr` it is the paper's ICR. It
    needs one more forward of the generator, and in the discriminator's turn one of the discriminator.
    """

    def __init__(
        self,
        *,
        discriminator_weight: Annotated[float, _Weight, "strength for the discriminator (lambda_dis)"] = 20.0,
        generator_weight: Annotated[float, _Weight, "strength for the generator (lambda_gen)"] = 0.5,
        noise: Annotated[float, _Weight, "standard deviation of the change of the latents"] = 0.05,
    ) -> None:
        super().__init__()
        self.discriminator_weight, self.generator_weight = discriminator_weight, generator_weight
        self.noise = noise

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """E (D(G(z)) - D(G(z + e)))^2 times its strength."""
        close = round.discriminate(self._images_of_close_latents(round).detach(), round.fake_labels)
        return self.discriminator_weight * (round.fake_logits - close).square().mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """-E (G(z) - G(z + e))^2 times its strength; never above 0."""
        return -self.generator_weight * (round.fakes - self._images_of_close_latents(round)).square().mean()

    def _images_of_close_latents(self, round: ganzoo.Round) -> Tensor:
        return round.generate(round.latents + self.noise * torch.randn_like(round.latents))


def _of_reals(round: ganzoo.Round) -> Tensor:
    changed = flipped_and_shifted(round.reals.detach())
    return (round.real_logits - round.discriminate(changed)).square().mean()


def flipped_and_shifted(images: Tensor) -> Tensor:
    """Each image (N, C, H, W) mirrored with probability 1/2 and shifted by up to an eighth of its size, reflected."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    for axis in (2, 3):
        places = _shifted_places(len(images), images.shape[axis], images.device)
        shape = [len(images), 1, 1, 1]
        shape[axis] = images.shape[axis]
        images = images.gather(axis, places.view(shape).expand_as(images))
    return images


def _shifted_places(count: int, size: int, device: torch.device) -> Tensor:
    """(count, size) int64: where in its row each pixel of a shifted and reflected row comes from."""
    most = size // 8
    shifts = torch.randint(-most, most + 1, (count, 1), device=device)
    places = (torch.arange(size, device=device) + shifts).abs()  # below 0 the row is reflected
    return torch.where(places >= size, 2 * (size - 1) - places, places)
