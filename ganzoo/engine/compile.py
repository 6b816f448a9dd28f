"""Compiled: what a step calls in place of its networks where torch.compile can serve it, found out before it is played.

Sampling and scoring call the networks themselves, and so do checkpoints: no name of a tensor changes.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from ganzoo.engine import seeds
from ganzoo.engine.distributed import any_rank
from ganzoo.engine.feed import Batch, Feed
from ganzoo.engine.game import Game
from ganzoo.engine.step import turn_gradients

#: by which torch.compile turns a network into code
BACKEND = "inductor"
#: sizes of batches, gradients or none, training or inference, memory layouts: more than a step can meet
_VARIANTS = 64


def compile_networks(game: Game, feed: Feed) -> str:
    """Have the steps of a game call compiled networks: both, or the generator alone, or none.

    Every turn is judged once on batches of every size that will come, so that whatever cannot be compiled (a penalty
    wants a second derivative of the discriminator, and torch has none of compiled code) is known before the first step.
    The game is left as it was. Returns what is not compiled, and why; empty where both networks are.
    """
    plain, reason = dict(game.called), _incapable(game.device)
    # before anything that all processes do together: one that fails alone would leave the others waiting for it
    if any_rank(bool(reason)):
        return f"Not compiled: {' and '.join(plain)} ({reason or 'another process cannot compile'})."
    for names in (("generator", "discriminator"), ("generator",)):
        game.called = {**plain, **{name: _compiled(network) for name, network in plain.items() if name in names}}
        failure = _failure(game, feed)
        if not any_rank(bool(failure)):
            break
        reason = reason or failure or "another process cannot compile it"
        game.called = plain
    rest = [name for name, network in game.called.items() if network is plain[name]]
    return f"Not compiled: {' and '.join(rest)} ({reason})." if rest else ""


def _incapable(device: torch.device) -> str:
    """Why nothing at all can be compiled here, such as for want of a compiler; empty where something can."""
    try:
        torch.compile(lambda values: values + 1, backend=BACKEND, fullgraph=True)(torch.zeros(2, device=device))
    except Exception as error:  # whatever a compiler comes up with
        return _in_a_line(error)
    return ""


def compiled_networks(game: Game) -> list[str]:
    """Names of the networks that are compiled."""
    return [name for name, network in game.called.items() if network is not getattr(game, name)]


def _compiled(network: nn.Module) -> Any:
    import torch._dynamo.config
    import torch._functorch.config
    import torch._inductor.config

    # of two players who move together the first one's backward keeps what the second one's needs
    torch._functorch.config.donated_buffer = False  # type: ignore[attr-defined]
    torch._dynamo.config.skip_nnmodule_hook_guards = False  # type: ignore[attr-defined]  # a diagnosis hooks on later
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VARIANTS)  # type: ignore[attr-defined]
    options: dict[str, Any] = {}
    if BACKEND == "inductor" and hasattr(torch._inductor.config, "deterministic"):
        options = {"options": {"deterministic": True}}  # what is chosen by timing differs from process to process
    # each size of batch its own code: which one serves a size must not depend on those met before
    return torch.compile(network, backend=BACKEND, fullgraph=True, dynamic=False, **options)


def _failure(game: Game, feed: Feed) -> str:
    """Judge every turn once; the first line of the error where that fails. Nothing moves, nothing is left behind."""
    kept = {name: value.detach().clone() for name, value in game.state().items()}
    try:
        with seeds.aside("compiling"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's compiler warns of what it does itself
            batches = feed.fill(0)
            for size in sorted({len(batches[0].labels), feed.last_size} - {0}):
                some = [Batch(batch.reals[:size], batch.labels[:size]) for batch in batches]
                for turn in game.turns:
                    turn_gradients(game, turn, some)
    except Exception as error:  # whatever a compiler, or code that cannot be compiled, comes up with
        return _in_a_line(error)
    finally:
        with torch.no_grad():
            for name, value in game.state().items():
                value.copy_(kept[name])
    return ""


def _in_a_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("backend=")]
    return (told or [type(error).__name__])[0].rstrip(".")
