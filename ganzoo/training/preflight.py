"""A check before the first step: every part is used once on copies, and its result is compared with the contract."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.images import to_range
from ganzoo.contract.round import Round
from ganzoo.engine import seeds
from ganzoo.engine.player import Player
from ganzoo.registry.contract_checks import CheckedPart, check_scalar
from ganzoo.registry.source import file_of
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup
from ganzoo.training.coupling import refuse_coupled_parts

_IMAGES = 4


def preflight(setup: TrainingSetup, zoo: Zoo) -> None:
    """Compute the losses of a few images once, and check every result on the way.

    Everything runs on copies and with random states of its own, so the training is the same as without this check.
    Raises GanzooError for the first part that breaks the contract, with its name, the cause and the line; UsageError
    for parts that gradient accumulation cannot be used with.
    """
    recipe, game = setup.recipe, setup.game
    with seeds.aside(recipe.seed, "preflight"):
        images, labels = setup.dataset.read(torch.arange(min(_IMAGES, recipe.batch_size, len(setup.dataset))))
        reals, labels = to_range(images.to(setup.device), setup.architecture.value_range), labels.to(setup.device)
        architecture = _checked_part(zoo, "architectures", recipe.architecture)
        with architecture("its latents"):
            random = torch.Generator(setup.device)
            latents = copy.deepcopy(setup.architecture).latents(len(reals), random)
            architecture.expect(latents, "its latents", len(reals), setup.device)
        networks = _CheckedNetworks(setup, architecture, zoo)
        styled = networks.generate_styled if hasattr(game.generator, "styles") else None
        round = Round(reals, labels, latents, networks.generate, networks.discriminate, generate_styled=styled)
        # computed here, so that an error in a network is not reported as one of the first loss
        _ = round.fakes, round.real_logits, round.fake_logits
        for choice, loss in zip(recipe.losses, copy.deepcopy(game.losses), strict=True):
            _check_loss(_checked_part(zoo, "losses", choice), loss, round)
    for role, player in {player.role: player for player in game.players.values()}.items():
        own = recipe.discriminator_optimizer if role == "discriminator" else None
        _check_optimizer(_checked_part(zoo, "optimizers", own or recipe.generator_optimizer), player)
    if recipe.accumulate > 1:
        refuse_coupled_parts(setup, zoo)


def _checked_part(zoo: Zoo, kind: str, choice: Choice | None) -> CheckedPart:
    assert choice is not None  # noqa: S101  (the recipe of a setup is complete)
    return CheckedPart(zoo.title(kind, choice), file_of(zoo.load(kind, choice)))


class _CheckedNetworks:
    """Copies of the networks and augmentations; each of their results is checked."""

    def __init__(self, setup: TrainingSetup, architecture: CheckedPart, zoo: Zoo) -> None:
        game, spec = setup.game, setup.dataset.spec
        self.architecture, self.device = architecture, setup.device
        self.shape = (spec.channels, spec.height, spec.width)
        self.autocast = game.autocast
        self.generator, self.discriminator = copy.deepcopy((game.generator, game.discriminator))
        parts = [_checked_part(zoo, "augmentations", choice) for choice in setup.recipe.augmentations]
        self.augmentations = list(zip(parts, copy.deepcopy(game.augmentations), strict=True))

    def precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False)

    def generate_styled(self, latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        generator: Any = self.generator
        with self.architecture("its generator"), self.precision():
            styles = generator.styles(latents, labels)
            return generator.images(styles), styles

    def generate(self, latents: Tensor, labels: Tensor) -> Tensor:
        with self.architecture("its generator"), self.precision():
            fakes = self.generator(latents, labels)
        self.architecture.expect(fakes, "its generator's images", len(latents), self.device, self.shape)
        return fakes.to(latents.dtype)  # type: ignore[no-any-return]

    def discriminate(self, images: Tensor, labels: Tensor) -> Tensor:
        for part, augmentation in self.augmentations:
            with part("forward"):
                images = augmentation(images)
            part.expect(images, "its images", len(labels), self.device, self.shape)
        with self.architecture("its discriminator"), self.precision():
            logits = self.discriminator(images, labels)
        self.architecture.expect(logits, "its discriminator's logits", len(labels), self.device)
        return logits.to(images.dtype)  # type: ignore[no-any-return]


def _check_loss(part: CheckedPart, loss: torch.nn.Module, round: Round) -> None:
    for role in ("discriminator", "generator"):
        with part(role):
            value = getattr(loss, role)(round)
        check_scalar(value, role, part)


def _check_optimizer(part: CheckedPart, player: Player) -> None:
    groups: Sequence[Mapping[str, Any]] = player.optimizer.param_groups
    if not all(isinstance(group["lr"], Tensor) for group in groups):
        raise part.refuse(
            "the learning rate of the optimizer it builds is a number, not a tensor that can be written in place"
        )
    with part("learning_rate"):
        rate = float(player.component.scheduled_learning_rate(0))
    if not math.isfinite(rate) or rate < 0:
        raise part.refuse(f"its learning rate at 0 images is {rate}, not a finite number of at least 0")
