"""Every architecture of the zoo with every loss: two finite steps, or a refusal before the first."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import ganzoo
from ganzoo import Choice, ImageSpec, Recipe, RefusedSpec, Round, UsageError
from ganzoo.contract.options import options_of
from ganzoo.engine.feed import Feed
from ganzoo.engine.game import Game
from ganzoo.engine.step import run_step
from ganzoo.registry.zoo import Zoo
from ganzoo.testing.small_parts import SyntheticImages

CPU, ZOO = torch.device("cpu"), Zoo()
COUNT, CLASSES = 4, 10
#: the losses that a loss is usually combined with; a loss without a gradient for the generator is a penalty
USUAL = {"wasserstein": ("gradient-penalty",), "relativistic": ("r1", "r2")}
#: regularisers that call both networks again in any form: all of them are added to one loss
TOGETHER = ("lecam", "cr", "bcr", "zcr")
LOSSES = [*(name for name in ZOO.names("losses") if name not in TOGETHER), " + ".join(TOGETHER)]
#: options that make networks small, given to those that have them
SMALL = {"width": 8, "latent_dim": 8, "units": 8, "channel_max": 8, "style_dim": 8, "mapping_layers": 2}
SIZES = (8, 12, 16, 20, 24, 28, 32)


@cache
def narrow(name: str) -> tuple[ganzoo.Architecture, ImageSpec]:
    """An architecture with narrow networks, and the smallest images that it accepts."""
    offered = options_of(ZOO.load("architectures", Choice(name)))
    architecture = ZOO.build("architectures", Choice(name, {key: SMALL[key] for key in SMALL if key in offered}))
    for size in SIZES:
        images = ImageSpec(1, size, size, CLASSES)
        try:
            architecture.networks(images)
        except RefusedSpec:
            continue
        return architecture, images
    raise AssertionError(f"{name} accepts no square of {SIZES}.")


@cache
def with_companions(name: str) -> tuple[str, ...]:
    """The losses of a recipe that tests this one: a penalty is combined with `nonsaturating`."""
    if name == LOSSES[-1]:
        return ("nonsaturating", *TOGETHER)
    loss = ZOO.build("losses", Choice(name))
    pictures, labels = torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)

    def generate(latents: Tensor, labels: Tensor) -> Tensor:
        return torch.rand(2, 1, 4, 4, requires_grad=True)

    def discriminate(images: Tensor, labels: Tensor) -> Tensor:
        return 1.1 * images  # one logit for each pixel, as an autoencoder might return

    def styled(latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        styles = torch.rand(len(latents), 2, 3, requires_grad=True)
        return styles.square().sum() * latents, styles

    round = Round(pictures, labels, pictures, generate, discriminate, generate_styled=styled)
    penalty = not all(getattr(loss, role)(round).requires_grad for role in ("generator", "discriminator"))
    return ("nonsaturating", name) if penalty else (name, *USUAL.get(name, ()))


def make_game(name: str, losses: tuple[str, ...], **changes: Any) -> tuple[Game, Feed, Recipe]:
    """A game of the architecture's recipe with these losses, on synthetic images, and its data feed."""
    architecture, images = narrow(name)
    changes = {"losses": list(losses), "batch_size": COUNT, "subset": "all", **changes}
    # without the turns for losses with an interval: here all losses are in every step
    turns = ",".join(turn for turn in architecture.recipe.turns.split(",") if not turn.endswith(".lazy"))
    recipe = architecture.recipe.merged({"turns": turns, **changes})
    generator_optimizer = ZOO.build("optimizers", recipe.generator_optimizer)
    choice = recipe.discriminator_optimizer
    game = Game(
        architecture,
        images,
        [ZOO.build("losses", loss) for loss in recipe.losses],
        [],
        generator_optimizer,
        ZOO.build("optimizers", choice) if choice else generator_optimizer,
        recipe,
        CPU,
    )
    return game, Feed(SyntheticImages(images), recipe, game.minibatches, architecture.value_range, CPU), recipe


def refusal(name: str, losses: tuple[str, ...], **changes: Any) -> str:
    """Why these two are refused; empty where two steps ran and every tensor stayed finite."""
    narrow(name)  # outside the try: an architecture that cannot be built is an error, and no refusal
    try:
        game, feed, recipe = make_game(name, losses, **changes)
    except UsageError as reason:
        return str(reason)
    try:
        for step in range(2):
            run_step(game, feed, recipe.seed, step)
    except UsageError as reason:
        assert step == 0
        return str(reason)
    assert not [key for key, value in game.state().items() if not value.isfinite().all()]
    return ""


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ZOO.names("architectures"))
def test_every_pair_trains_or_is_refused(name: str, loss: str) -> None:
    losses = with_companions(loss)
    one_side_alone = any(turn in narrow(name)[0].recipe.turns for turn in ("D.reals", "D.fakes"))
    if loss == "path-length" and name != "stylegan2":
        assert "a generator with styles" in refusal(name, losses, turns="D,G")
    elif one_side_alone and not all(ZOO.load("losses", Choice(part)).separable for part in losses):
        reason = refusal(name, losses)
        assert "needs both sides" in reason
        assert reason.endswith("'D,G'.")
        assert not refusal(name, losses, turns="D,G")  # as the message says
    else:
        assert not refusal(name, losses)


def test_a_penalty_is_recognised_by_its_gradient() -> None:
    """So that the test above also covers losses that are written later."""
    assert with_companions("r1") == ("nonsaturating", "r1")
    assert with_companions("hinge") == ("hinge",)
    assert with_companions("wasserstein") == ("wasserstein", "gradient-penalty")
