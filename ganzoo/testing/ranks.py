"""Two processes that play together over gloo: started when first needed, kept for the checks that follow."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import inspect
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from typing import IO, Any

import torch
import torch.distributed as dist
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.registry.zoo import zoo
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped
from ganzoo.testing.play import make_game

_SECONDS = 60
_PROGRAM = "import sys; from ganzoo.testing.ranks import serve; serve(int(sys.argv[1]), sys.argv[2])"


def play(part: ExaminedPart) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters of both networks after two steps, on each of two processes that share a batch.

    Raises Skipped where the two cannot be had, Failed where one of them fails.
    """
    job = (sys.path, _address(part), part.kind, dict(part.options))
    try:
        pair = _pair()
        for process in pair:
            _send(process.stdin, job)
        first, second = (_receive(process.stdout) for process in pair)
    except (OSError, EOFError, pickle.PickleError) as error:
        _stop()
        raise Skipped(f"two processes cannot be had here: {error or type(error).__name__}") from error
    for answer in (first, second):
        if isinstance(answer, str):
            _stop()  # the other one may wait for it for ever
            raise Skipped(answer) if answer.startswith("gloo") else Failed(f"In one of two processes: {answer}")
    return first, second


def _address(part: ExaminedPart) -> str:
    """Where another process finds the class: `module:Class` or `file.py:Class`."""
    component = part.component
    module = sys.modules.get(component.__module__)
    found: Any = module
    for name in component.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not component:
        raise Skipped("another process cannot find the class by its module and name, as in one made in a function")
    if component.__module__.startswith("ganzoo_location_") or getattr(module, "__spec__", None) is None:
        return f"{inspect.getsourcefile(component)}:{component.__qualname__}"
    return f"{component.__module__}:{component.__qualname__}"


@functools.cache
def _pair() -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    folder = tempfile.TemporaryDirectory(prefix="ganzoo-ranks-")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    pair = tuple(
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(rank), os.path.join(folder.name, "store")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        for rank in range(2)
    )
    atexit.register(_stop)
    _FOLDERS.append(folder)
    return pair[0], pair[1]


#: of the processes that live
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def _stop() -> None:
    """End the two processes, if they were started."""
    if not _FOLDERS:
        return
    for process in _pair():
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
    _pair.cache_clear()
    _FOLDERS.pop().cleanup()


def _send(stream: IO[bytes] | None, message: Any) -> None:
    assert stream is not None  # noqa: S101  (it is a pipe)
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


def _receive(stream: IO[bytes] | None) -> Any:
    assert stream is not None  # noqa: S101  (it is a pipe)
    size = stream.read(8)
    if len(size) < 8:
        raise EOFError("a process ended")
    return pickle.loads(stream.read(int.from_bytes(size, "big")))  # noqa: S301  (from a process of our own)


def serve(rank: int, store: str) -> None:
    """One of the two: plays what it is sent until its input ends."""
    # what parts print must not come between the answers
    answers, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr
    torch.set_num_threads(1)
    problem = ""
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=_SECONDS)
        )
    except Exception as error:
        problem = f"gloo cannot start here: {error}"
    with contextlib.suppress(EOFError):
        while True:
            job = _receive(sys.stdin.buffer)
            _send(answers, problem or _answer(*job))


def _answer(path: list[str], address: str, kind: str, options: Mapping[str, Any]) -> dict[str, Tensor] | str:
    sys.path[:] = path
    try:
        part = ExaminedPart(kind, _found(address), options)
        seated = make_game(part, own=False)
        seated.play(0, 2)
        game = seated.game
        return {
            f"{role}/{name}": value.detach().clone()
            for role, network in (("generator", game.generator), ("discriminator", game.discriminator))
            for name, value in network.named_parameters()
        }
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _found(address: str) -> type[Any]:
    place, _, name = address.rpartition(":")
    if place.endswith(".py"):
        found: Any = zoo().load("architectures", Choice(address))
    else:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(place))
    component: type[Any] = found
    return component
