"""From a recipe to what is trained: its parts, the game they form and the data feed, on one device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ganzoo.contract.components import Architecture, Dataset
from ganzoo.contract.recipe import Recipe
from ganzoo.engine import distributed, seeds
from ganzoo.engine.feed import Feed
from ganzoo.engine.game import Game
from ganzoo.engine.history import History
from ganzoo.registry.zoo import Zoo


@dataclass
class TrainingSetup:
    """A recipe and the objects built from it."""

    recipe: Recipe
    architecture: Architecture
    dataset: Dataset
    game: Game
    feed: Feed
    device: torch.device
    #: the sets of images and the lengths so far; None until the training begins or continues
    history: History | None = None


def build_setup(recipe: Recipe, zoo: Zoo, device: torch.device) -> TrainingSetup:
    """Build every part of a complete recipe on the device. Nothing is written.

    Raises UsageError for options that a part refuses, GanzooError where a part cannot be built.
    """
    assert recipe.architecture is not None  # noqa: S101  (the recipe is complete: `plan` made it)
    assert recipe.dataset is not None  # noqa: S101
    distributed.init_process_group(device)
    seeds.reseed(recipe.seed, "parts")  # a part may draw random numbers in its constructor
    architecture = zoo.build("architectures", recipe.architecture)
    dataset = zoo.build("datasets", recipe.dataset, split="train")
    generator_optimizer = zoo.build("optimizers", recipe.generator_optimizer)
    game = Game(
        architecture,
        dataset.spec,
        [zoo.build("losses", choice) for choice in recipe.losses],
        [zoo.build("augmentations", choice) for choice in recipe.augmentations],
        generator_optimizer,
        zoo.build("optimizers", recipe.discriminator_optimizer)
        if recipe.discriminator_optimizer
        else generator_optimizer,
        recipe,
        device,
    )
    feed = Feed(dataset, recipe, game.minibatches, architecture.value_range, device)
    return TrainingSetup(recipe, architecture, dataset, game, feed, device)
