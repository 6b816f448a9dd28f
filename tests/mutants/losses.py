"""Faulty losses."""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torch.nn.functional import softplus

import ganzoo


class Good(ganzoo.SeparableLoss):
    """The nonsaturating loss."""

    def on_reals(self, logits: Tensor) -> Tensor:
        return softplus(-logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        return softplus(logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        return softplus(-round.fake_logits).mean()


class Joint(ganzoo.Loss):
    """The same loss, not separable."""

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        return softplus(-round.real_logits).mean() + softplus(round.fake_logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        return softplus(-round.fake_logits).mean()


class Constant(Good):
    """Zero, without a gradient for either player."""

    def on_reals(self, logits: Tensor) -> Tensor:
        return 0 * logits.mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        return 0 * logits.mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        return 0 * round.fake_logits.mean()


class LogOfSigmoid(Good):
    """Infinite at large logits."""

    def on_reals(self, logits: Tensor) -> Tensor:
        return -torch.log(torch.sigmoid(logits)).mean()


class Detached(Good):
    """A loss of the generator without a gradient."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        return softplus(-round.fake_logits.detach()).mean()


class OneSided(Joint):
    """Declares that it is separable, but always uses both sides."""

    separable = True


class Sour(Good):
    """The generator's loss falls as its fakes look more fake."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        return softplus(round.fake_logits).mean()


class Reversed(Good):
    """The discriminator's loss falls as it is wrong more often."""

    def on_reals(self, logits: Tensor) -> Tensor:
        return softplus(logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        return softplus(-logits).mean()


class Positional(Good):
    """The first image of a batch has the largest weight."""

    def on_reals(self, logits: Tensor) -> Tensor:
        weights = torch.linspace(1.5, 0.5, len(logits), device=logits.device)
        return (weights[:, None] * softplus(-logits)).mean()


class InPlace(Good):
    """Changes the logits of the round in place."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        return softplus(-round.fake_logits.mul_(0.5)).mean()


class Counting(Good):
    """Grows with a counter outside its buffers."""

    calls = 0

    def on_reals(self, logits: Tensor) -> Tensor:
        self.calls += 1
        return (1 + 0.01 * self.calls) * softplus(-logits).mean()


class Branching(Good):
    """Reads a value on the host."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        loss = softplus(-round.fake_logits).mean()
        return loss if loss.item() > 0 else loss.clone()


class Anchored(Joint):
    """Compares with the logits of its first round, which are not in a checkpoint."""

    anchor: Tensor | None = None

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        if self.anchor is None:
            self.anchor = round.real_logits.detach().mean()
        return softplus(self.anchor - round.real_logits).mean() + softplus(round.fake_logits).mean()


class HostNoise(Good):
    """A number that the host draws in every step; a recorded step repeats the same one."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        return (1 + 0.5 * random.random()) * softplus(-round.fake_logits).mean()


MUTANTS = {
    "losses_are_scalars": Constant,
    "finite_at_extreme_logits": LogOfSigmoid,
    "gradient_reaches_the_player": Detached,
    "separable_terms_add_up": OneSided,
    "generator_loss_rewards_realism": Sour,
    "discriminator_loss_rewards_accuracy": Reversed,
    "order_does_not_matter": Positional,
    "round_is_left_alone": InPlace,
    "state_is_in_buffers": Counting,
    "runs_on_any_device": Branching,
    "resumes_bit_for_bit": Anchored,
    "captured_is_eager": HostNoise,
}
ALSO = {"state_is_in_buffers": {"resumes_bit_for_bit"}}
