"""torch.compile for the networks of a step, tried out before the first step.

Sampling, scoring and checkpoints use the networks that are not compiled, so the names of tensors do not change.
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

#: the backend of torch.compile
BACKEND = "inductor"
#: how often a network may be compiled: more than a step has batch sizes, modes and memory layouts
_VARIANTS = 64


def compile_networks(game: Game, feed: Feed) -> str:
    """Let the steps of a game call compiled networks: both, or only the generator, or none.

    The gradients of every turn are computed once for each batch size of the training. So what cannot be compiled is
    known before the first step: a gradient penalty, for example, needs second derivatives, which torch does not have
    for compiled code. The state of the game is the same afterwards. Returns a sentence with the networks that are not
    compiled and the reason; empty where both are.
    """
    plain, reason = dict(game.called), _incapable(game.device)
    # before any operation of all processes together: where only one process failed, the others would wait for it
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
    """Why nothing can be compiled on this machine, such as a missing compiler; empty where compiling works."""
    try:
        torch.compile(lambda values: values + 1, backend=BACKEND, fullgraph=True)(torch.zeros(2, device=device))
    except Exception as error:  # a compiler may raise anything
        return _in_a_line(error)
    return ""


def compiled_networks(game: Game) -> list[str]:
    """The names of the networks whose compiled form the steps call."""
    return [name for name, network in game.called.items() if network is not getattr(game, name)]


def _compiled(network: nn.Module) -> Any:
    import torch._dynamo.config
    import torch._functorch.config
    import torch._inductor.config

    # where two players are updated at once, the first backward pass keeps what the second one needs
    torch._functorch.config.donated_buffer = False  # type: ignore[attr-defined]
    torch._dynamo.config.skip_nnmodule_hook_guards = False  # type: ignore[attr-defined]  # a diagnosis adds hooks later
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VARIANTS)  # type: ignore[attr-defined]
    options: dict[str, Any] = {}
    if BACKEND == "inductor" and hasattr(torch._inductor.config, "deterministic"):
        options = {"options": {"deterministic": True}}  # a choice by timing differs between processes
    # code for each batch size: the code for one size must not depend on the sizes before it
    return torch.compile(network, backend=BACKEND, fullgraph=True, dynamic=False, **options)


def _failure(game: Game, feed: Feed) -> str:
    """Compute the gradients of every turn once. The first line of the error where that fails; no state is changed."""
    before = {name: value.detach().clone() for name, value in game.state().items()}
    try:
        with seeds.aside("compiling"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's compiler warns about its own code
            batches = feed.fill(0)
            for size in sorted({len(batches[0].labels), feed.last_size} - {0}):
                first = [Batch(batch.reals[:size], batch.labels[:size]) for batch in batches]
                for turn in game.turns:
                    turn_gradients(game, turn, first)
    except Exception as error:  # a compiler, and code that it cannot compile, may raise anything
        return _in_a_line(error)
    finally:
        with torch.no_grad():
            for name, value in game.state().items():
                value.copy_(before[name])
    return ""


def _in_a_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    meaningful = [line for line in lines if line and not line.startswith("backend=")]
    return (meaningful or [type(error).__name__])[0].rstrip(".")
