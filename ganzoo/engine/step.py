"""One training step of every architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganzoo.contract.round import Round
from ganzoo.engine.distributed import mean_over_ranks
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.engine.player import Turn
from ganzoo.engine.sync_batch_norm import one_batch


def play(game: Game, batches: Sequence[Batch]) -> None:
    """One step: every turn of the game, each on a round of its own. `batches` holds one minibatch for each of
    `game.minibatches`.

    Gradients of all players of a turn are taken before any of them moves: `D+G` is a simultaneous update.
    """
    scalars: dict[str, list[Tensor]] = {name: [] for name in game.meter.names}
    replayed: Round | None = None
    for turn in game.turns:
        round, costs, gradients = judge(game, turn, batches, replayed)
        replayed = round if turn.replayed else None
        for player, cost, gradient in zip(turn.players, costs, gradients, strict=True):
            said = _accuracies(round) if player.role == "discriminator" else []
            # what is only looked at travels with the gradients: it is the same on all ranks, and costs no exchange
            shared = mean_over_ranks([*gradient, cost.detach(), *said])
            player.update(shared[: len(gradient)])
            scalars[f"{player.role}_loss"].append(shared[len(gradient)])
            if said:
                scalars["discriminator_accuracy"] += shared[len(gradient) + 1 :]
    game.average.follow()
    game.meter.add({name: torch.stack(values).mean() for name, values in scalars.items()})


def judge(
    game: Game, turn: Turn, batches: Sequence[Batch], replayed: Round | None = None
) -> tuple[Round, list[Tensor], list[tuple[Tensor, ...]]]:
    """A round of a turn, what it costs each player, and the gradients of that; nobody moves."""
    with one_batch():
        round = game.round(turn, batches[turn.minibatch], replayed)
        costs = [player.cost(round) for player in turn.players]
        gradients = [
            torch.autograd.grad(cost, player.parameters, retain_graph=cost is not costs[-1], materialize_grads=True)
            for player, cost in zip(turn.players, costs, strict=True)
        ]
    return round, costs, gradients


def _accuracies(round: Round) -> list[Tensor]:
    """Share of reals with a positive logit, and of fakes without one, of what was asked in this round."""
    right: dict[str, Callable[[Tensor], Tensor]] = {"reals": lambda x: x > 0, "fakes": lambda x: x <= 0}
    shares = [right[side](logits.detach()).to(torch.float32).mean() for side, logits in round.said.items()]
    return shares or [torch.zeros((), device=round.reals.device)]
