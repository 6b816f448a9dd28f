"""One step examined closely: every loss, gradient, weight and module output, and the first that is not finite.

The step is `engine.step.train_step` itself; hooks on its modules, losses and players record what it computes.
"""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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

#: what was computed, in order: kind ("output", "cost", "gradient", "weight"), name, what and value of each tensor
Events = list[dict[str, Any]]


def examine(game: Game, batches: Sequence[Batch]) -> dict[str, Any]:
    """Train one step and return what it computed, as plain data.

    `costs`: the value of each loss for each player, turn by turn. `gradients`, `weights`: the norm for each parameter;
    the weights are those after the update. `first_bad`: the first of all these, or of the modules' outputs, that is not
    finite, in the order of computation; None where all are finite.
    """
    events: Events = []
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings(action="ignore"))  # torch warns of compiling again
        for name, network in (("generator", game.generator), ("discriminator", game.discriminator)):
            stack.enter_context(_recorded_outputs(name, network, events))
        for index, loss in enumerate(game.losses):
            for role in ("discriminator", "generator"):
                stack.enter_context(_recorded_loss(f"{type(loss).__name__} (loss {index + 1})", loss, role, events))
        for player in game.players.values():
            stack.enter_context(_recorded_update(player, events))
        train_step(game, batches)
    bad = next((event for event in events if not _is_finite(event["value"])), None)
    return {
        "first_bad": _plain(bad) if bad else None,
        "costs": [_plain(event) for event in events if event["kind"] == "cost"],
        "gradients": {event["name"]: _number(event["value"]) for event in events if event["kind"] == "gradient"},
        "weights": {event["name"]: _number(event["value"]) for event in events if event["kind"] == "weight"},
    }


def first_bad_step(game: Game, feed: Feed, seed: int, state: dict[str, Tensor], step: int, last: int) -> dict[str, Any]:
    """What `examine` finds in the first step that is not finite, training again from `state`, that of step `step`.

    Where no step up to `last` is bad, what it finds in step `last`. The game keeps the state after that step.
    """
    game.restore(state)
    found: dict[str, Any] = {"first_bad": None}
    # each process sees other images; all of them train the next step, or none
    while step < last and not any_rank(bool(found["first_bad"])):
        found = run_step(game, feed, seed, step, examine)
        step += 1
    return {"step": step, "images": feed.images_at(step), **found}


def divergence(found: dict[str, Any], noticed: int, run: Path, newest: Path | None) -> tuple[dict[str, Any], str]:
    """(the content of diagnosis.json, the error message) for a training that diverged.

    `found` comes from `first_bad_step`. `noticed` is the step after which it was noticed, `newest` the path of the
    newest checkpoint.
    """
    step, bad = found["step"], found["first_bad"]
    command = f"ganzoo replay {shlex.quote(str(run))} --step {step}"
    what = f"{described(bad)} is {bad['value']}" if bad else "a number is not finite"
    kept = "The last good checkpoint is kept." if newest else "No checkpoint was saved before it."
    facts = {**found, "noticed_at_step": noticed}
    facts |= {"last_good_checkpoint": str(newest) if newest else None, "replay": command}
    return facts, (
        f"The training has diverged: {what} in step {step}. {kept} See "
        f"{run / 'diagnosis.json'}; `{command}` runs that step again. Train again with a lower learning rate, or with "
        f"a penalty, for example --loss nonsaturating --loss r1."
    )


def quantity(event: Mapping[str, Any]) -> str:
    """What an event of `examine` is, in words: "loss", "gradient", "weight" or "output"."""
    return "loss" if event["kind"] == "cost" else str(event["kind"])  # the files call a loss cost since version 0.1


def described(event: Mapping[str, Any]) -> str:
    """An event of `examine` in a message: `gradient of discriminator.0.weight (discriminator)`."""
    return f"{quantity(event)} of {event['name']} ({event['what']})"


@contextmanager
def _recorded_outputs(network_name: str, network: nn.Module, events: Events) -> Iterator[None]:
    """Record the norm of the output of every module that has no children."""

    def recorder(name: str, kind: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                norm = output.detach().float().norm()
                events.append({"kind": "output", "name": f"{network_name}.{name}", "what": kind, "value": norm})

        return hook

    leaves = [(name, module) for name, module in network.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(recorder(name, type(module).__name__)) for name, module in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _recorded_loss(name: str, loss: Loss, role: str, events: Events) -> Iterator[None]:
    """Record the value of a loss for one player."""
    original = getattr(loss, role)

    def recording(round: Any) -> Tensor:
        value: Tensor = original(round)
        events.append({"kind": "cost", "name": name, "what": role, "value": value.detach()})
        return value

    object.__setattr__(loss, role, recording)  # nn.Module's own would register modules and parameters
    try:
        yield
    finally:
        object.__delattr__(loss, role)


@contextmanager
def _recorded_update(player: Player, events: Events) -> Iterator[None]:
    """Record the norms of a player's gradients, and of its weights after the update."""
    original = player.update

    def recording(gradients: Sequence[Tensor]) -> None:
        for name, gradient in zip(player.names, gradients, strict=True):
            events.append({"kind": "gradient", "name": name, "what": player.role, "value": gradient.detach().norm()})
        original(gradients)
        for name, parameter in zip(player.names, player.parameters, strict=True):
            events.append({"kind": "weight", "name": name, "what": player.role, "value": parameter.detach().norm()})

    player.update = recording  # type: ignore[method-assign]
    try:
        yield
    finally:
        del player.update  # type: ignore[method-assign]


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _number(value: Tensor) -> float | str:
    """A number that JSON can hold; NaN and infinity become text."""
    number = float(value)
    return round(number, 6) if math.isfinite(number) else str(number)


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "value": _number(event["value"])}
