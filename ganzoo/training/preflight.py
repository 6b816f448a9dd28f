"""Rehearsal: one round on copies before a run, so that a part that breaks the contract is refused by its own name."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.images import to_range
from ganzoo.contract.round import Round
from ganzoo.engine import seeds
from ganzoo.registry.contract_checks import CheckedPart, check_scalar
from ganzoo.registry.source import file_of
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup

_IMAGES = 4


def preflight(table: TrainingSetup, zoo: Zoo) -> None:
    """Draw, judge and cost a few images once, and look at every result.

    Everything is done on copies and apart from the run's random states, so the run plays as if nothing had been.
    Raises GanzooError with the part, the cause and the line for the first part that does not keep its promise.
    """
    recipe, game = table.recipe, table.game
    with seeds.aside(recipe.seed, "rehearsal"):
        images, labels = table.dataset.read(torch.arange(min(_IMAGES, recipe.batch_size, len(table.dataset))))
        reals, labels = to_range(images.to(table.device), table.architecture.value_range), labels.to(table.device)
        architecture = _owner(zoo, "architectures", recipe.architecture)
        with architecture("its latents"):
            random = torch.Generator(table.device)
            latents = copy.deepcopy(table.architecture).latents(len(reals), random)
            architecture.expect(latents, "its latents", len(reals), table.device)
        stage = _Stage(table, architecture, zoo)
        round = Round(reals, labels, latents, stage.generate, stage.discriminate)
        _ = round.fakes, round.real_logits, round.fake_logits  # so that no loss is blamed for them
        for choice, loss in zip(recipe.losses, copy.deepcopy(game.losses), strict=True):
            _cost(_owner(zoo, "losses", choice), loss, round)
    for role, player in {player.role: player for player in game.players.values()}.items():
        chosen = recipe.discriminator_optimizer if role == "discriminator" else None
        _optimizer(_owner(zoo, "optimizers", chosen or recipe.generator_optimizer), player)


def _owner(zoo: Zoo, kind: str, choice: Choice | None) -> CheckedPart:
    assert choice is not None  # noqa: S101  (the recipe of a table is complete)
    return CheckedPart(zoo.title(kind, choice), file_of(zoo.load(kind, choice)))


class _Stage:
    """Copies of the networks and augmentations, each result looked at."""

    def __init__(self, table: TrainingSetup, architecture: CheckedPart, zoo: Zoo) -> None:
        game, spec = table.game, table.dataset.spec
        self.architecture, self.device = architecture, table.device
        self.shape = (spec.channels, spec.height, spec.width)
        self.autocast = game.autocast
        self.generator, self.discriminator = copy.deepcopy((game.generator, game.discriminator))
        owners = [_owner(zoo, "augmentations", choice) for choice in table.recipe.augmentations]
        self.augmentations = list(zip(owners, copy.deepcopy(game.augmentations), strict=True))

    def precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False)

    def generate(self, latents: Tensor, labels: Tensor) -> Tensor:
        with self.architecture("its generator"), self.precision():
            fakes = self.generator(latents, labels)
        self.architecture.expect(fakes, "its generator's images", len(latents), self.device, self.shape)
        return fakes.to(latents.dtype)  # type: ignore[no-any-return]

    def discriminate(self, images: Tensor, labels: Tensor) -> Tensor:
        for owner, augmentation in self.augmentations:
            with owner("forward"):
                images = augmentation(images)
            owner.expect(images, "its images", len(labels), self.device, self.shape)
        with self.architecture("its discriminator"), self.precision():
            logits = self.discriminator(images, labels)
        self.architecture.expect(logits, "its discriminator's logits", len(labels), self.device)
        return logits.to(images.dtype)  # type: ignore[no-any-return]


def _cost(owner: CheckedPart, loss: torch.nn.Module, round: Round) -> None:
    for role in ("discriminator", "generator"):
        with owner(role):
            cost = getattr(loss, role)(round)
        check_scalar(cost, role, owner)


def _optimizer(owner: CheckedPart, player: Any) -> None:
    groups: list[Mapping[str, Any]] = player.optimizer.param_groups
    if not all(isinstance(group["lr"], Tensor) for group in groups):
        raise owner.refuse("the learning rate of what it builds is a number, not a tensor that can be written in place")
    with owner("learning_rate"):
        rate = float(player.component.learning_rate(0))
    if not math.isfinite(rate) or rate < 0:
        raise owner.refuse(f"its learning rate at 0 images is {rate}, not a finite number of at least 0")
