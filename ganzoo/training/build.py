"""From a recipe to what is trained: its parts, the game they form and the data feed, on one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ganzoo.contract.components import Architecture, Dataset
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.protocol import Protocol
from ganzoo.contract.recipe import Recipe, parse_early_stop
from ganzoo.engine import distributed, seeds
from ganzoo.engine.feed import Feed
from ganzoo.engine.game import Game
from ganzoo.engine.history import History
from ganzoo.evaluation.scorer import Scorer
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


def build_scorer(setup: TrainingSetup, zoo: Zoo, known_sha256: Mapping[str, str] | None = None) -> Scorer | None:
    """The scorer of the recipe's evaluators; None without evaluators. `known_sha256` is as in `Scorer`.

    Raises UsageError for a score that the recipe names and no evaluator has.
    """
    recipe = setup.recipe
    if not recipe.evaluators:
        if recipe.early_stop:
            raise UsageError(
                f"--early-stop {recipe.early_stop!r} needs an evaluator that scores the training, such as "
                f"-e {recipe.early_stop.split()[0]}."
            )
        return None
    assert recipe.dataset is not None  # noqa: S101  (the recipe of a run is complete)
    scorer = Scorer(
        zoo,
        recipe.dataset,
        recipe.evaluators,
        setup.device,
        Protocol.named(recipe.protocol),
        recipe.score_samples or None,
        conditional=setup.architecture.conditional,
        known_sha256=known_sha256,
    )
    stopping = parse_early_stop(recipe.early_stop)[0] if recipe.early_stop else ""
    for option, score in (("--best-by", recipe.best_by), ("--early-stop", stopping)):
        if score and score not in scorer.names:
            near = did_you_mean(score, scorer.names)
            raise UsageError(f"{option} {score!r} is not a score of this run; it has: {', '.join(scorer.names)}.{near}")
    return scorer
