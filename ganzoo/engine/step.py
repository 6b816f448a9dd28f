"""One training step, for every architecture: each turn's losses, their gradients, and the updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ganzoo.contract.round import Round
from ganzoo.engine.accumulation import TurnGradients, mean_over_parts
from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.engine.distributed import mean_over_ranks, world_size
from ganzoo.engine.feed import Batch, Feed
from ganzoo.engine.game import Game
from ganzoo.engine.player import Turn
from ganzoo.engine.sync_batch_norm import sync_batch_norm

_Result = TypeVar("_Result")


def train_step(game: Game, batches: Sequence[Batch]) -> None:
    """One step: the updates of every turn, each on its own round, then the update of the EMA and of the running means.

    `batches` has `game.minibatches` minibatches. The gradients of all players of a turn are computed before any of them
    is updated: `D+G` is a simultaneous update.
    """
    scalars: dict[str, list[Tensor]] = {name: [] for name in game.running_means.names}
    batches = game.preprocess(batches)
    reused: Round | None = None
    for turn in game.turns:
        computed = turn_gradients(game, turn, batches, reused)
        reused = computed.reused
        if any(player.role == "discriminator" for player in turn.players):
            game.observe(computed.logits)
        for player, loss, gradient in zip(turn.players, computed.losses, computed.gradients, strict=True):
            if loss is None:
                continue  # no loss with an interval is due
            accuracies = _accuracies(game, computed.logits) if player.role == "discriminator" and not turn.lazy else []
            # the logged scalars are averaged over the ranks together with the gradients, in one all-reduce
            shared = mean_over_ranks([*gradient, loss, *accuracies])
            player.update(shared[: len(gradient)])
            if turn.lazy:
                continue  # the mean of the other losses is logged
            scalars[f"{player.role}_loss"].append(shared[len(gradient)])
            if accuracies:
                scalars["discriminator_accuracy"] += shared[len(gradient) + 1 :]
    # the images that are really in the step: an epoch's last batch, and one larger than the set, have fewer
    game.ema.update(sum(len(batch.labels) for batch in batches) * world_size())
    game.running_means.add({name: torch.stack(values).mean() for name, values in scalars.items()})


def run_step(
    game: Game,
    feed: Feed,
    seed: int,
    step: int,
    update: Callable[[Game, Sequence[Batch]], _Result] = train_step,  # type: ignore[assignment]
    batches: Sequence[Batch] | None = None,
) -> _Result:
    """Run step number `step` (from 0) of a training with this seed, and return the result of `update`.

    Images, random states and schedules depend on (seed, step) only, so any step can be run again. `update` is
    `train_step`, or a function that calls it. `batches` are the minibatches of the step; None: they are read
    from `feed`.
    """
    batches = feed.fill(step) if batches is None else batches
    game.reseed(seed, step)  # no random state has to be saved with a checkpoint
    game.advance(feed.images_at(step), step)  # learning rates and other schedules, in place
    return update(game, batches)


def graphed(graph: StepGraph) -> Callable[[Game, Sequence[Batch]], None]:
    """`train_step` through `graph`, which records it once for each combination of minibatch sizes and due losses."""

    def update(game: Game, batches: Sequence[Batch]) -> None:
        key = (*(len(batch.labels) for batch in batches), *game.due_key)
        graph(key, lambda: train_step(game, batches))

    return update


def turn_gradients(game: Game, turn: Turn, batches: Sequence[Batch], reused: Round | None = None) -> TurnGradients:
    """The loss of each player of a turn, its gradients, and the logits. No network is updated.

    With gradient accumulation they are computed over parts of the minibatch, one after the other, and averaged. In a
    turn for losses with an interval, the loss of a player for which none is due is None, without gradients.
    """
    with sync_batch_norm():
        round = game.round(turn, batches[turn.minibatch], reused)
        images = len(round.labels)
        parts = round.split(game.part_size)
        return mean_over_parts((len(part.labels) / images, _gradients(game, turn, part)) for part in parts)


def _gradients(game: Game, turn: Turn, round: Round) -> TurnGradients:
    """The losses of one round and their gradients, without the graph: the memory of a part is free before the next."""
    losses = [
        (player.lazy_loss if turn.lazy else player.loss)(round, game.due_losses(turn, player))
        for player in turn.players
    ]
    gradients = [
        torch.autograd.grad(loss, player.parameters, retain_graph=loss is not losses[-1], materialize_grads=True)
        if loss is not None
        else ()
        for player, loss in zip(turn.players, losses, strict=True)
    ]
    logits = {side: logits.detach() for side, logits in round.computed_logits.items()}
    detached = [None if loss is None else loss.detach() for loss in losses]
    return TurnGradients(detached, gradients, logits, round if turn.reused else None)


def _accuracies(game: Game, logits: dict[str, Tensor]) -> list[Tensor]:
    """Share of reals with a logit above 0, and of fakes with a logit of at most 0, if these logits were computed.

    A list with one 0 if the losses computed neither.
    """
    correct: dict[str, Callable[[Tensor], Tensor]] = {"reals": lambda x: x > 0, "fakes": lambda x: x <= 0}
    shares = [correct[side](values).to(torch.float32).mean() for side, values in logits.items()]
    return shares or [torch.zeros((), device=game.device)]
