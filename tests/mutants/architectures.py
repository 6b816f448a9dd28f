"""Faulty architectures."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, leaky_relu

import ganzoo


class Generator(nn.Module):
    """Latents (N, 4) -> images in (-1, 1)."""

    def __init__(self, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.shape = (images.channels, images.height, images.width)
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, images.pixels)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.relu(self.first(latents)))).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Images -> logits (N, 1)."""

    def __init__(self, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(images.pixels, 16), nn.Linear(16, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.last(leaky_relu(self.first(images.flatten(1)), 0.2))


class Good(ganzoo.Architecture):
    """Two layers in each network."""

    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe()
    generator: ClassVar[type[nn.Module]] = Generator
    discriminator: ClassVar[type[nn.Module]] = Discriminator

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        return self.generator(images), self.discriminator(images)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, 4, generator=generator, device=generator.device)


class DoubleLogits(Good):
    """Logits in another precision."""

    class discriminator(Discriminator):
        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            return super().forward(images, labels).double()


class OutOfRange(Good):
    """Images brighter than white."""

    class generator(Generator):
        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return 1.2 * super().forward(latents, labels)


class OneModel(Good):
    """The same initial weights for every seed."""

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return super().networks(images)


class GlobalLatents(Good):
    """Draws a number from the global random generator too."""

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        torch.rand(1)
        return super().latents(count, generator)


class DropoutAlways(Good):
    """Dropout in training and in inference mode."""

    class generator(Generator):
        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return super().forward(dropout(latents, 0.1), labels)


class CentredLogits(Good):
    """In inference mode each logit depends on the others of its batch."""

    class discriminator(Discriminator):
        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            logits = super().forward(images, labels)
            return logits if self.training else logits - logits.mean(0)


class ShrinkingLatents(Good):
    """Changes its inputs in place."""

    class generator(Generator):
        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return super().forward(latents.mul_(0.5), labels)


class SecretGain(Good):
    """A random factor that is not in the state_dict."""

    class generator(Generator):
        def __init__(self, images: ganzoo.ImageSpec) -> None:
            super().__init__(images)
            self.gain = 1 + random.random()

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return super().forward(latents * self.gain, labels)


class Entangled(Good):
    """A copy of it uses a layer of the original."""

    class generator(Generator):
        def __init__(self, images: ganzoo.ImageSpec) -> None:
            super().__init__(images)
            self.head = lambda features: self.last(features)

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return torch.tanh(self.head(torch.relu(self.first(latents)))).view(-1, *self.shape)


class SecretlyConditional(Good):
    """Uses the labels, but declares that it does not."""

    class discriminator(Discriminator):
        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            return super().forward(images, labels) + 0.1 * labels[:, None]


class Probabilities(Good):
    """A sigmoid at the end of the discriminator."""

    class discriminator(Discriminator):
        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            return torch.sigmoid(super().forward(images, labels))


class Pinned(Good):
    """A tensor that is not a buffer and stays on its device."""

    class generator(Generator):
        def __init__(self, images: ganzoo.ImageSpec) -> None:
            super().__init__(images)
            self.offset = torch.zeros(4)

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return super().forward(latents + self.offset, labels)


class Reading(Good):
    """Reads the value of a tensor on the host in every step."""

    class generator(Generator):
        def __init__(self, images: ganzoo.ImageSpec) -> None:
            super().__init__(images)
            self.scale = torch.ones(())

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return super().forward(latents if self.scale.item() > 0 else -latents, labels)


class Misnamed(Good):
    """A variant with a loss that does not exist."""

    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"better": {"losses": "no-such-loss"}}


class Idle(Good):
    """A layer that is never used."""

    class discriminator(Discriminator):
        def __init__(self, images: ganzoo.ImageSpec) -> None:
            super().__init__(images)
            self.idle = nn.Linear(3, 3)


class LogOfSigmoid(ganzoo.SeparableLoss):
    """The loss as in a textbook, with a logarithm of a sigmoid."""

    def on_reals(self, logits: Tensor) -> Tensor:
        return -torch.log(torch.sigmoid(logits)).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        return -torch.log(1 - torch.sigmoid(logits)).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        return -torch.log(torch.sigmoid(round.fake_logits)).mean()


class Overflowing(Good):
    """A recipe whose loss is not finite at large logits."""

    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict({"losses": f"{__file__}:LogOfSigmoid"})


class Timid(Good):
    """A discriminator with very small logits."""

    class discriminator(Discriminator):
        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            return 0.01 * torch.tanh(super().forward(images, labels))


class SmallDifferences(Good):
    """Divides by (1 + 1e-3) - 1, which is 0 in bfloat16."""

    class discriminator(Discriminator):
        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            features = leaky_relu(self.first(images.flatten(1)), 0.2)
            return self.last(features * (1e-3 / ((torch.ones_like(features) + 1e-3) - 1)))


class Counting(Good):
    """An offset that grows with a counter outside the state."""

    class generator(Generator):
        calls = 0

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            if self.training:
                self.calls += 1
            return super().forward(latents + (0.01 * self.calls if self.training else 0), labels)


class OfThisProcess(Good):
    """Initial weights that depend on the process id."""

    class generator(Generator):
        def __init__(self, images: ganzoo.ImageSpec) -> None:
            super().__init__(images)
            with torch.no_grad():
                self.last.bias += (os.getpid() % 7919) * 1e-5


class HostNoise(Good):
    """A number that the host draws in every step; a recorded step repeats the same one."""

    class generator(Generator):
        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return super().forward(latents + (0.1 * random.random() if self.training else 0), labels)


MUTANTS = {
    "shapes_are_as_asked": DoubleLogits,
    "images_keep_their_range": OutOfRange,
    "same_seed_same_weights": OneModel,
    "latents_come_from_their_generator": GlobalLatents,
    "inference_is_deterministic": DropoutAlways,
    "images_do_not_depend_on_the_batch": CentredLogits,
    "inputs_are_left_alone": ShrinkingLatents,
    "weights_survive_saving": SecretGain,
    "copies_are_independent": Entangled,
    "labels_matter_as_declared": SecretlyConditional,
    "logits_are_not_probabilities": Probabilities,
    "runs_on_any_device": Pinned,
    "compiles_without_a_break": Reading,
    "recipes_name_what_exists": Misnamed,
    "every_parameter_gets_a_gradient": Idle,
    "losses_are_finite_at_extreme_logits": Overflowing,
    "discriminator_overfits_one_batch": Timid,
    "bf16_is_finite": SmallDifferences,
    "resumes_bit_for_bit": Counting,
    "two_processes_are_one": OfThisProcess,
    "captured_is_eager": HostNoise,
}
