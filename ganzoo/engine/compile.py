"""torch.compile for the networks of a step. Compilation is tested before the first step.

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
#: limit of compilations of one network: more than there are batch sizes, modes and memory layouts in a step
_VARIANTS = 64


def compile_networks(game: Game, feed: Feed) -> str:
    """Compile the networks that the steps of a game call: both, only the generator, or none.

    The gradients of every turn are computed once for each batch size of the training. So a failure to compile is found
    before the first step: a gradient penalty, for example, needs second derivatives, which torch does not support for
    compiled code. The state of the game is restored afterwards. Returns a sentence that names the networks that are not
    compiled and the reason; empty if both are compiled.
    """
    uncompiled, reason = dict(game.called), _why_unavailable(game.device)
    # all processes agree here: otherwise the others would wait in a collective operation for one that cannot compile
    if any_rank(bool(reason)):
        return f"Not compiled: {' and '.join(uncompiled)} ({reason or 'another process cannot compile'})."
    for names in (("generator", "discriminator"), ("generator",)):
        game.called = {name: _compiled(each) if name in names else each for name, each in uncompiled.items()}
        error_line = _compile_error(game, feed)
        if not any_rank(bool(error_line)):
            break
        reason = reason or error_line or "another process cannot compile it"
        game.called = uncompiled
    not_compiled = [name for name, network in game.called.items() if network is uncompiled[name]]
    return f"Not compiled: {' and '.join(not_compiled)} ({reason})." if not_compiled else ""


def _why_unavailable(device: torch.device) -> str:
    """Why torch.compile does not work on this machine, such as a missing C++ compiler; empty if it works."""
    try:
        torch.compile(lambda values: values + 1, backend=BACKEND, fullgraph=True)(torch.zeros(2, device=device))
    except Exception as error:  # a compiler may raise anything
        return _first_line(error)
    return ""


def compiled_networks(game: Game) -> list[str]:
    """The names of the networks whose compiled form the steps call."""
    return [name for name, network in game.called.items() if network is not getattr(game, name)]


def _compiled(network: nn.Module) -> Any:
    import torch._dynamo.config
    import torch._functorch.config
    import torch._inductor.config

    # where two players are updated simultaneously, the second backward pass needs the buffers that the first one used
    torch._functorch.config.donated_buffer = False  # type: ignore[attr-defined]
    torch._dynamo.config.skip_nnmodule_hook_guards = False  # type: ignore[attr-defined]  # a diagnosis adds hooks later
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VARIANTS)  # type: ignore[attr-defined]
    options: dict[str, Any] = {}
    if BACKEND == "inductor" and hasattr(torch._inductor.config, "deterministic"):
        options = {"options": {"deterministic": True}}  # kernels chosen by timing would differ between processes
    # dynamic=False: code for each batch size, which does not depend on the sizes that were compiled before
    return torch.compile(network, backend=BACKEND, fullgraph=True, dynamic=False, **options)


def _compile_error(game: Game, feed: Feed) -> str:
    """Compute the gradients of every turn once. Returns the first line of the error, or "" if there is none.

    The state of the game is restored.
    """
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
        return _first_line(error)
    finally:
        with torch.no_grad():
            for name, value in game.state().items():
                value.copy_(before[name])
    return ""


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    meaningful = [line for line in lines if line and not line.startswith("backend=")]
    return (meaningful or [type(error).__name__])[0].rstrip(".")
