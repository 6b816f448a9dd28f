"""A small training that uses the examined part, and the checks that all trainable kinds of part share."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.components import Architecture, Optimizer
from ganzoo.contract.recipe import Recipe
from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.engine.feed import Batch, Feed
from ganzoo.engine.game import Game
from ganzoo.engine.step import graphed, run_step, train_step
from ganzoo.registry.zoo import zoo
from ganzoo.storage.tensors import tensors_to_bytes
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped, labels_for, reals_for, require, same
from ganzoo.testing.small_parts import SPEC, GradientDescent, LinearGAN, NonSaturating, SyntheticImages

BATCH = 8


@dataclasses.dataclass
class SmallGame:
    """A game that uses the examined part, and the data feed of its training."""

    recipe: Recipe
    game: Game
    feed: Feed

    def run(self, first: int, last: int, graph: StepGraph | None = None) -> None:
        """Do steps `first` to `last` - 1 (from 0), as a training does; through `graph` where one is given."""
        for step in range(first, last):
            run_step(self.game, self.feed, self.recipe.seed, step, train_step if graph is None else graphed(graph))

    def state(self) -> dict[str, Tensor]:
        """A copy of every tensor that the next step depends on."""
        return {name: value.detach().clone() for name, value in self.game.state().items()}

    def batch(self) -> Batch:
        """A minibatch of random images in which every class occurs."""
        images = self.game.images
        return Batch(reals_for(self.game.architecture, images, BATCH), labels_for(images, BATCH))


def make_game(part: ExaminedPart, *, precision: str = "fp32", device: str = "cpu", own: bool = True) -> SmallGame:
    """A game that uses the part, on batches of 8 synthetic images.

    An architecture is trained with its own recipe; with `own=False`, with the kit's loss and optimiser. Any other part
    is trained on the kit's architecture; a loss or an augmentation is used together with the kit's loss.
    """
    architecture: Architecture = part.build() if part.kind == "architectures" else LinearGAN()
    recipe = _recipe(part, own)
    recipe = recipe.merged({"batch_size": BATCH, "batch_order": "stream", "subset": "all", "precision": precision})
    spec = part.spec if part.kind == "architectures" else SPEC
    losses, augmentations, (generator_optimizer, discriminator_optimizer) = _parts(part, recipe, own)
    torch_device = torch.device(device)
    game = Game(
        architecture, spec, losses, augmentations, generator_optimizer, discriminator_optimizer, recipe, torch_device
    )
    feed = Feed(SyntheticImages(spec), recipe, game.minibatches, architecture.value_range, torch_device)
    return SmallGame(recipe, game, feed)


def _recipe(part: ExaminedPart, own: bool) -> Recipe:
    recipe: Recipe = part.component.recipe if part.kind == "architectures" and own else Recipe(ema_half_life=100)
    return recipe


def _parts(part: ExaminedPart, recipe: Recipe, own: bool) -> tuple[list[Any], list[Any], tuple[Optimizer, Optimizer]]:
    """(losses, augmentations, (generator's optimiser, discriminator's optimiser))."""
    if part.kind != "architectures" or not own:
        losses = [NonSaturating()] + [part.build() for _ in range(part.kind == "losses")]
        optimizers = [part.build() if part.kind == "optimizers" else GradientDescent() for _ in range(2)]
        return losses, [part.build()] if part.kind == "augmentations" else [], (optimizers[0], optimizers[1])
    generator_optimizer = zoo().build("optimizers", recipe.generator_optimizer)
    other = recipe.discriminator_optimizer
    return (
        [zoo().build("losses", choice) for choice in recipe.losses],
        [zoo().build("augmentations", choice) for choice in recipe.augmentations],
        (generator_optimizer, zoo().build("optimizers", other) if other else generator_optimizer),
    )


def resumes_bit_for_bit(part: ExaminedPart) -> None:
    """Two steps, a checkpoint loaded by a new game, and two more steps equal four steps, bit for bit."""
    whole, first, second = make_game(part), make_game(part), make_game(part)
    start = whole.state()
    whole.run(0, 4)
    first.run(0, 2)
    second.game.restore(_through_a_file(first.state()))
    second.run(2, 4)
    expected, found = whole.state(), second.state()
    require(not same(start, expected), "Four steps change no tensor: nothing is trained.")
    different = [name for name in expected if not torch.equal(expected[name], found[name])]
    require(
        not different,
        f"{len(different)} of {len(expected)} tensors differ after a resume, {different[:1]} first. "
        "State outside tensors and random numbers from other generators than the global ones are not in a checkpoint.",
    )


def _through_a_file(state: dict[str, Tensor]) -> dict[str, Tensor]:
    import safetensors.torch

    return safetensors.torch.load(tensors_to_bytes(state))


def captured_is_eager(part: ExaminedPart) -> str | None:
    """On a GPU: steps recorded as a CUDA graph and replayed compute what eager steps compute."""
    if not part.component.capturable:
        return "it declares capturable = False: its steps run eagerly"
    if not torch.cuda.is_available():
        raise Skipped("there is no CUDA device here")
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        eager, captured = make_game(part, device="cuda"), make_game(part, device="cuda")
        if refusal := captured.game.uncapturable:
            return f"{refusal}: its steps run eagerly"
        graph = StepGraph(captured.game.device, captured.game.random)
        eager.run(0, 8)
        captured.run(0, 8, graph)
        torch.cuda.synchronize()
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept
    if not graph.captured:
        raise Failed(f"{graph.reason[:1].upper()}{graph.reason[1:]}. If that cannot be fixed, set capturable = False.")
    expected, found = eager.state(), captured.state()
    # eager and recorded kernels may sum in another order; a wrong step makes a far larger difference
    different = [name for name in expected if not _near(expected[name], found[name])]
    require(
        not different,
        f"{len(different)} of {len(expected)} tensors differ from those of eager steps, {different[:1]} first.",
    )
    return None


def _near(first: Tensor, second: Tensor) -> bool:
    if not first.is_floating_point():
        return torch.equal(first, second)
    scale = float(first.abs().max()) if first.numel() else 0.0
    return torch.allclose(first, second, rtol=1e-2, atol=1e-3 * scale + 1e-6)
