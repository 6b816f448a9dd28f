"""What is trained on what, in a few lines before the first step, with advice where a setting is plainly wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from ganzoo.contract.choice import Amount, amount_in_words, short_name
from ganzoo.contract.errors import counted
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.train_options import option_words
from ganzoo.engine.device import device_name
from ganzoo.engine.progress import Progress
from ganzoo.training.build import TrainingSetup

#: sets below this size are small: a discriminator learns them by heart
SMALL_SET = 1_000
#: a length with fewer steps than this shows nothing
FEW_STEPS = 1_000
#: the smallest batch that is advised
SMALLEST_BATCH = 8
#: the name of a variant for small sets, of the architectures that have one
FEW_IMAGES_RECIPE = "few-images"
#: why these fields of a recipe are changed for a small set: its images are ...
REASONS = {
    "batch_size": "few for this batch",
    "augmentations": "so few that the discriminator learns them by heart",
}


def introduction(setup: TrainingSetup, length: Amount) -> Iterator[str]:
    """Lines about the data, the networks and the run's `length`, and about what a user may want to change.

    `length` is not always that of the recipe of `setup`: a resume may give the run another one.
    """
    recipe, feed, spec = setup.recipe, setup.feed, setup.dataset.spec
    names = short_name(recipe.architecture), short_name(recipe.dataset)
    classes = f", {spec.classes} classes" if spec.classes > 1 else ""
    kept = getattr(setup.dataset, "test_images", 0)  # of datasets that know it without reading the test split
    held_out = f" ({kept:,} more are kept for tests)" if kept else ""
    yield f"Training {names[0]} on {names[1]}: {feed.length:,} training images{held_out}, {spec}{classes}."
    networks = [_parameters(network) for network in (setup.game.generator, setup.game.discriminator)]
    steps = Progress(length, feed).last_step
    total = "" if length.unit == "steps" else f"{amount_in_words(length)}: "
    yield (
        f"Generator {networks[0]} parameters, discriminator {networks[1]}; device {device_name(setup.device)}; "
        f"{total}{counted(steps, 'step')} of {counted(recipe.batch_size, 'image')}."
    )
    yield from _advice(setup, length, steps)


def _parameters(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()):,}"


def _advice(setup: TrainingSetup, length: Amount, steps: int) -> Iterator[str]:
    """A line with options to add, where a setting is plainly wrong for a small set."""
    recipe, images = setup.recipe, setup.feed.length
    options = [" ".join(option_words(field, value)) for field, value in changes_for_small_set(recipe, images).items()]
    if images < SMALL_SET and length.unit == "epochs" and steps < FEW_STEPS:
        options.append("--steps 5000")
    if options:
        small = FEW_IMAGES_RECIPE in setup.architecture.recipes and not recipe.augmentations  # not that recipe yet
        named = f", or train with --recipe {FEW_IMAGES_RECIPE}" if small and images < SMALL_SET else ""
        yield f"Advice: {_reasons(images, steps, options)}: add {' '.join(options)}{named}."


def changes_for_small_set(recipe: Recipe, images: int) -> dict[str, Any]:
    """Fields of a recipe, with their values, that are better for so few images; none where nothing is plainly wrong."""
    changes: dict[str, Any] = {}
    batch = max(SMALLEST_BATCH, min(32, images // 8))
    if images < 4 * recipe.batch_size and batch < recipe.batch_size:
        changes["batch_size"] = batch
    if images < SMALL_SET and not recipe.augmentations:
        changes["augmentations"] = "diffaugment"
    return changes


def _reasons(images: int, steps: int, options: list[str]) -> str:
    """Why these options are advised."""
    reasons = {
        **{option_words(field, words)[0]: words for field, words in REASONS.items()},
        "--steps": f"seen in {counted(steps, 'step')} only, where thousands are needed",
    }
    return f"{counted(images, 'image is', 'images are')} " + ", ".join(reasons[option.split()[0]] for option in options)
