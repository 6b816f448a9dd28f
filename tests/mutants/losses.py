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
    """The same, of both sides at once."""

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        return softplus(-round.real_logits).mean() + softplus(round.fake_logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        return softplus(-round.fake_logits).mean()


class Saying(Good):
    """Nothing, to either player."""

    def on_reals(self, logits: Tensor) -> Tensor:
        return 0 * logits.mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        return 0 * logits.mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        return 0 * round.fake_logits.mean()


class LogOfSigmoid(Good):
    """Infinite far out."""

    def on_reals(self, logits: Tensor) -> Tensor:
        return -torch.log(torch.sigmoid(logits)).mean()


class Detached(Good):
    """A cost that moves nobody."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        return softplus(-round.fake_logits.detach()).mean()


class OneSided(Joint):
    """Says it is separable, and looks at both sides whatever the turn."""

    separable = True


class Sour(Good):
    """The generator is paid for looking fake."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        return softplus(round.fake_logits).mean()


class Reversed(Good):
    """The discriminator is paid for being wrong."""

    def on_reals(self, logits: Tensor) -> Tensor:
        return softplus(logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        return softplus(-logits).mean()


class Positional(Good):
    """The first image of a batch counts for more."""

    def on_reals(self, logits: Tensor) -> Tensor:
        weights = torch.linspace(1.5, 0.5, len(logits), device=logits.device)
        return (weights[:, None] * softplus(-logits)).mean()


class InPlace(Good):
    """Works on the logits that other losses look at too."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        return softplus(-round.fake_logits.mul_(0.5)).mean()


class Counting(Good):
    """Grows with a count of its own."""

    calls = 0

    def on_reals(self, logits: Tensor) -> Tensor:
        self.calls += 1
        return (1 + 0.01 * self.calls) * softplus(-logits).mean()


class Branching(Good):
    """Reads a value on the host."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        cost = softplus(-round.fake_logits).mean()
        return cost if cost.item() > 0 else cost.clone()


class Anchored(Joint):
    """Measures against the first round it ever saw, which no checkpoint holds."""

    anchor: Tensor | None = None

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        if self.anchor is None:
            self.anchor = round.real_logits.detach().mean()
        return softplus(self.anchor - round.real_logits).mean() + softplus(round.fake_logits).mean()


class HostNoise(Good):
    """A number drawn on the host in every step, which a recorded step never draws again."""

    def generator(self, round: ganzoo.Round) -> Tensor:
        return (1 + 0.5 * random.random()) * softplus(-round.fake_logits).mean()


MUTANTS = {
    "losses_are_scalars": Saying,
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
