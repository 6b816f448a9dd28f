"""Diagnosis: one step played under a magnifying glass: every cost, gradient, weight and output, and what is not finite.

The step is `engine.game.play` itself, watched from outside: what is seen is what is played.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Loss
from ganzoo.engine.distributed import any_rank
from ganzoo.engine.feed import Batch, Feed
from ganzoo.engine.game import Game
from ganzoo.engine.player import Player
from ganzoo.engine.step import run_step, train_step


def examine(game: Game, batches: Sequence[Batch]) -> dict[str, Any]:
    """Play one step and say what happened in it, as plain data.

    `costs`: each loss's share of each player's cost, turn by turn. `gradients`, `weights`: the norm by parameter, after
    the turn that moved it. `outputs`: the first module whose output is not finite, or null. `first_bad`: the first of
    all these that is not finite, in the order they were computed.
    """
    seen: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings(action="ignore"))  # torch's, of compiling anew
        for name, network in (("generator", game.generator), ("discriminator", game.discriminator)):
            stack.enter_context(_watched_modules(name, network, seen))
        for index, loss in enumerate(game.losses):
            for role in ("discriminator", "generator"):
                stack.enter_context(_watched_cost(f"{type(loss).__name__} (loss {index + 1})", loss, role, seen))
        for player in game.players.values():
            stack.enter_context(_watched_update(player, seen))
        train_step(game, batches)
    bad = next((event for event in seen if not _is_finite(event["value"])), None)
    return {
        "first_bad": _plain(bad) if bad else None,
        "costs": [_plain(event) for event in seen if event["kind"] == "cost"],
        "gradients": {event["name"]: _number(event["value"]) for event in seen if event["kind"] == "gradient"},
        "weights": {event["name"]: _number(event["value"]) for event in seen if event["kind"] == "weight"},
    }


def first_bad_step(game: Game, feed: Feed, seed: int, state: dict[str, Tensor], step: int, last: int) -> dict[str, Any]:
    """What `examine` says of the first step after `step`, where the game was in `state`, that is not finite.

    Or of step `last`, where none is. The game is left there.
    """
    game.restore(state)
    found: dict[str, Any] = {"first_bad": None}
    # other ranks see other images, and all play a step or none
    while step < last and not any_rank(bool(found["first_bad"])):
        found = run_step(game, feed, seed, step, examine)
        step += 1
    return {"step": step, "images": feed.images_at(step), **found}


def divergence(found: dict[str, Any], noticed: int, run: Path, newest: Path | None) -> tuple[dict[str, Any], str]:
    """The facts of a training that diverged, for diagnosis.json, and the sentence that ends it.

    `found` is what `first_bad_step` said, `noticed` the step it was noticed at, `newest` the newest checkpoint.
    """
    step, bad = found["step"], found["first_bad"]
    command = f"ganzoo replay {run} --step {step}"
    what = f"{bad['kind']} of {bad['name']} ({bad['what']}) is {bad['value']}" if bad else "a number is not finite"
    facts = {**found, "noticed_at_step": noticed}
    facts |= {"last_good_checkpoint": str(newest) if newest else None, "replay": command}
    return facts, (
        f"The training has diverged: {what} in step {step}. The last good checkpoint is kept; {run / 'diagnosis.json'} "
        f"says more, and `{command}` plays that step again. Train anew with a lower learning rate, or with a penalty, "
        f"--loss nonsaturating --loss r1."
    )


@contextmanager
def _watched_modules(owner: str, network: nn.Module, seen: list[dict[str, Any]]) -> Iterator[None]:
    """Note the norm of what every leaf module gives."""

    def note(name: str, kind: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                norm = output.detach().float().norm()
                seen.append({"kind": "output", "name": f"{owner}.{name}", "what": kind, "value": norm})

        return hook

    leaves = [(name, module) for name, module in network.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(note(name, type(module).__name__)) for name, module in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _watched_cost(name: str, loss: Loss, role: str, seen: list[dict[str, Any]]) -> Iterator[None]:
    """Note what a loss costs a player."""
    original = getattr(loss, role)

    def noted(round: Any) -> Tensor:
        cost: Tensor = original(round)
        seen.append({"kind": "cost", "name": name, "what": role, "value": cost.detach()})
        return cost

    object.__setattr__(loss, role, noted)
    try:
        yield
    finally:
        object.__delattr__(loss, role)


@contextmanager
def _watched_update(player: Player, seen: list[dict[str, Any]]) -> Iterator[None]:
    """Note the gradients a player is moved by, and where its weights are then."""
    original = player.update

    def noted(gradients: Sequence[Tensor]) -> None:
        for name, gradient in zip(player.names, gradients, strict=True):
            seen.append({"kind": "gradient", "name": name, "what": player.role, "value": gradient.detach().norm()})
        original(gradients)
        for name, parameter in zip(player.names, player.parameters, strict=True):
            seen.append({"kind": "weight", "name": name, "what": player.role, "value": parameter.detach().norm()})

    player.update = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        del player.update  # type: ignore[method-assign]


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _number(value: Tensor) -> float | str:
    """A number JSON can hold: NaN and infinity in words."""
    number = float(value)
    return round(number, 6) if math.isfinite(number) else str(number)


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "value": _number(event["value"])}
