"""Assembly: where names, files and devices meet. The verbs stand on this floor; it plays nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ganzoo.contract.components import Architecture, Dataset
from ganzoo.contract.recipe import Recipe
from ganzoo.engine import distributed, seeds
from ganzoo.engine.feed import Feed
from ganzoo.engine.game import Game
from ganzoo.registry.zoo import Zoo


@dataclass
class TrainingSetup:
    """A recipe with its parts at the table: what `train` plays."""

    recipe: Recipe
    architecture: Architecture
    dataset: Dataset
    game: Game
    feed: Feed
    device: torch.device


def build_setup(recipe: Recipe, zoo: Zoo, device: torch.device) -> TrainingSetup:
    """Build every part of a recipe on the device. Raises a GanzooError, and writes nothing, where one refuses."""
    assert recipe.architecture is not None  # noqa: S101  (a recipe from `plan`)
    assert recipe.dataset is not None  # noqa: S101
    distributed.init_process_group(device)
    seeds.reseed(recipe.seed, "parts")  # a part may draw in its constructor
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
