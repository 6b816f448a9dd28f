"""What is trained on what, in a few lines before the first step, with advice where a setting is plainly wrong."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ganzoo.contract.choice import short_name
from ganzoo.engine.device import device_name
from ganzoo.engine.progress import Progress
from ganzoo.training.build import TrainingSetup

#: sets below this size are small: a discriminator learns them by heart
SMALL_SET = 1_000
#: a length with fewer steps than this shows nothing
FEW_STEPS = 1_000


def introduction(setup: TrainingSetup) -> Iterator[str]:
    """Lines about the data, the networks and the length, and about what a user may want to change."""
    recipe, feed, spec = setup.recipe, setup.feed, setup.dataset.spec
    names = short_name(recipe.architecture), short_name(recipe.dataset)
    classes = f", {spec.classes} classes" if spec.classes > 1 else ""
    yield f"Training {names[0]} on {names[1]}: {feed.length:,} training images, {spec}{classes}."
    networks = [_parameters(network) for network in (setup.game.generator, setup.game.discriminator)]
    steps = Progress(recipe.length, feed).last_step
    yield (
        f"Generator {networks[0]} parameters, discriminator {networks[1]}; device {device_name(setup.device)}; "
        f"{recipe.length}: {steps:,} steps of {recipe.batch_size} images."
    )
    yield from _advice(setup, steps)


def _parameters(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()):,}"


def _advice(setup: TrainingSetup, steps: int) -> Iterator[str]:
    recipe, images = setup.recipe, setup.feed.length
    if images < 4 * recipe.batch_size:
        batch = max(1, min(32, images // 8))
        yield f"Advice: {images:,} images are few for batches of {recipe.batch_size}; take --batch-size {batch}."
    if images < SMALL_SET and not recipe.augmentations:
        yield f"Advice: with {images:,} images the discriminator learns them by heart; add --augmentation diffaugment."
    if images < SMALL_SET and recipe.length.unit == "epochs" and steps < FEW_STEPS:
        yield f"Advice: {recipe.length} of {images:,} images are {steps:,} steps; take thousands, --steps 5000."
