"""Every architecture of the zoo with every loss: two finite steps, or a refusal before the first."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import ganzoo
from ganzoo import Choice, ImageSpec, RefusedSpec, Round, UsageError
from ganzoo.contract.options import options_of
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.engine.step import train_step
from ganzoo.registry.zoo import Zoo

CPU, ZOO = torch.device("cpu"), Zoo()
COUNT, CLASSES = 4, 10
#: what a loss is usually trained with beside it; a loss that says nothing to the generator is a penalty on another
USUAL = {"wasserstein": ("gradient-penalty",), "relativistic": ("r1", "r2")}
#: options that make networks small, given to those that have them
SMALL = {"width": 8, "latent_dim": 8, "units": 8}
SIZES = (8, 12, 16, 20, 24, 28, 32)


@cache
def seat(name: str) -> tuple[ganzoo.Architecture, ImageSpec]:
    """An architecture with narrow networks, and the smallest images it serves."""
    offered = options_of(ZOO.load("architectures", Choice(name)))
    architecture = ZOO.build("architectures", Choice(name, {key: SMALL[key] for key in SMALL if key in offered}))
    for size in SIZES:
        images = ImageSpec(1, size, size, CLASSES)
        try:
            architecture.networks(images)
        except RefusedSpec:
            continue
        return architecture, images
    raise AssertionError(f"{name} serves no square of {SIZES}.")


@cache
def with_companions(name: str) -> tuple[str, ...]:
    """The losses of a recipe that is about this one."""
    loss = ZOO.build("losses", Choice(name))
    pictures, labels = torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)

    def generate(latents: Tensor, labels: Tensor) -> Tensor:
        return torch.rand(2, 1, 4, 4, requires_grad=True)

    def discriminate(images: Tensor, labels: Tensor) -> Tensor:
        return 1.1 * images  # as many logits as numbers: also what an autoencoder would say

    penalty = not loss.generator(Round(pictures, labels, pictures, generate, discriminate)).requires_grad
    return ("nonsaturating", name) if penalty else (name, *USUAL.get(name, ()))


def table(name: str, losses: tuple[str, ...], **changes: Any) -> Game:
    architecture, images = seat(name)
    recipe = architecture.recipe.merged({"losses": list(losses), "batch_size": COUNT, **changes})
    generator_optimizer = ZOO.build("optimizers", recipe.generator_optimizer)
    choice = recipe.discriminator_optimizer
    return Game(
        architecture,
        images,
        [ZOO.build("losses", loss) for loss in recipe.losses],
        [],
        generator_optimizer,
        ZOO.build("optimizers", choice) if choice else generator_optimizer,
        recipe,
        CPU,
    )


def batches(game: Game, step: int) -> list[Batch]:
    random = torch.Generator().manual_seed(step)
    images, (low, high) = game.images, game.architecture.value_range
    shape = (COUNT, images.channels, images.height, images.width)
    return [
        Batch(
            torch.rand(shape, generator=random) * (high - low) + low,
            torch.randint(CLASSES, (COUNT,), generator=random),
        )
        for _ in range(game.minibatches)
    ]


def refusal(name: str, losses: tuple[str, ...], **changes: Any) -> str:
    """Why these two will not play; empty where they have played two steps, and everything stayed finite."""
    seat(name)  # an architecture that cannot be built is no refusal
    try:
        game = table(name, losses, **changes)
    except UsageError as reason:
        return str(reason)
    for step in range(2):
        game.reseed(0, step)
        game.advance(step * COUNT * game.minibatches)
        train_step(game, batches(game, step))
    assert not [key for key, value in game.state().items() if not value.isfinite().all()]
    return ""


@pytest.mark.parametrize("loss", ZOO.names("losses"))
@pytest.mark.parametrize("name", ZOO.names("architectures"))
def test_every_pair_plays_or_is_refused(name: str, loss: str) -> None:
    losses = with_companions(loss)
    one_side_alone = "." in seat(name)[0].recipe.turns
    if one_side_alone and not all(ZOO.load("losses", Choice(part)).separable for part in losses):
        reason = refusal(name, losses)
        assert "needs both sides" in reason
        assert reason.endswith("'D,G'.")
        assert not refusal(name, losses, turns="D,G")  # as it says
    else:
        assert not refusal(name, losses)


def test_companions_are_told_from_the_losses_themselves() -> None:
    """What makes the test above cover losses that nobody thought of when it was written."""
    assert with_companions("r1") == ("nonsaturating", "r1")
    assert with_companions("hinge") == ("hinge",)
    assert with_companions("wasserstein") == ("wasserstein", "gradient-penalty")
