"""Two processes that train together over gloo. They are started when first needed and kept for later checks.

Jobs and results are sent through separate pipes, not through standard output, because the examined part and gloo may
print there.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import importlib
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
from ganzoo.registry.source import file_of
from ganzoo.registry.zoo import zoo
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped
from ganzoo.testing.small_game import make_game

_TIMEOUT_SECONDS = 60
_PROGRAM = "import sys; from ganzoo.testing.two_processes import serve; serve(*sys.argv[1:])"


@dataclasses.dataclass(frozen=True)
class _Worker:
    """One of the two processes, and the pipes to and from it."""

    process: subprocess.Popen[bytes]
    jobs: IO[bytes]
    answers: IO[bytes]

    def stop(self) -> None:
        """End the process and close the pipes."""
        self.process.kill()
        self.process.wait()
        for stream in (self.jobs, self.answers):
            with contextlib.suppress(OSError):
                stream.close()


def run_two_steps(part: ExaminedPart) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters of both networks after two steps, from each of two processes that share a batch.

    Raises Skipped where two processes cannot be started, Failed where one of them fails.
    """
    job = (sys.path, _address(part), part.kind, dict(part.options))
    try:
        workers = _workers()
        for worker in workers:
            _send(worker.jobs, job)
        first, second = (_receive(worker.answers) for worker in workers)
    except (OSError, EOFError, pickle.PickleError) as error:
        _stop()
        raise Skipped(f"two processes cannot be started here: {error or type(error).__name__}") from error
    for answer in (first, second):
        if isinstance(answer, str):
            _stop()  # the other process may still wait for this one
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
        raise Skipped("another process cannot import the class by its module and name: it may be local to a function")
    if component.__module__.startswith("ganzoo_location_") or getattr(module, "__spec__", None) is None:
        return f"{file_of(component)}:{component.__qualname__}"
    return f"{component.__module__}:{component.__qualname__}"


@functools.cache
def _workers() -> tuple[_Worker, _Worker]:
    folder = tempfile.TemporaryDirectory(prefix="ganzoo-ranks-")
    store = os.path.join(folder.name, "store")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(folder.cleanup)
        first = _start(0, store, environment)
        on_failure.callback(first.stop)
        second = _start(1, store, environment)
        on_failure.pop_all()
    atexit.register(_stop)
    _FOLDERS.append(folder)
    return first, second


def _start(rank: int, store: str, environment: dict[str, str]) -> _Worker:
    jobs_out, jobs_in = os.pipe()
    answers_out, answers_in = os.pipe()
    theirs = (jobs_out, answers_in)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(rank), store, *map(str, theirs)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=theirs,
            env=environment,
        )
    except OSError:
        os.close(jobs_in)
        os.close(answers_out)
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)  # only the other process has it open then, so reading ends when that process ends
    return _Worker(process, os.fdopen(jobs_in, "wb"), os.fdopen(answers_out, "rb"))


#: the folder of the rendezvous file, while the two processes live
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def _stop() -> None:
    """End the two processes, if they were started."""
    if not _FOLDERS:
        return
    for worker in _workers():
        worker.stop()
    _workers.cache_clear()
    _FOLDERS.pop().cleanup()


def _send(stream: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    size = stream.read(8)
    if len(size) < 8:
        raise EOFError("a process ended")
    return pickle.loads(stream.read(int.from_bytes(size, "big")))  # noqa: S301  (from a process of our own)


def serve(rank: str, store: str, jobs: str, answers: str) -> None:
    """Run by each of the two processes: does the jobs it receives until the pipe of the jobs is closed.

    `store` is the path of the rendezvous file, `jobs` and `answers` are the numbers of the pipes' descriptors.
    """
    torch.set_num_threads(1)
    problem = ""
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=int(rank),
            world_size=2,
            timeout=timedelta(seconds=_TIMEOUT_SECONDS),
        )
    except Exception as error:
        problem = f"gloo cannot start here: {error}"
    with (
        os.fdopen(int(jobs), "rb") as incoming,
        os.fdopen(int(answers), "wb") as outgoing,
        contextlib.suppress(EOFError),
    ):
        while True:
            job = _receive(incoming)
            _send(outgoing, problem or _answer(*job))


def _answer(path: list[str], address: str, kind: str, options: Mapping[str, Any]) -> dict[str, Tensor] | str:
    """All parameters after two steps, or the text of the error."""
    sys.path[:] = path
    try:
        small_game = make_game(ExaminedPart(kind, _load(address), options), own=False)
        small_game.run(0, 2)
        game = small_game.game
        return {
            f"{role}/{name}": value.detach().clone()
            for role, network in (("generator", game.generator), ("discriminator", game.discriminator))
            for name, value in network.named_parameters()
        }
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _load(address: str) -> type[Any]:
    place, _, name = address.rpartition(":")
    if place.endswith(".py"):
        found: Any = zoo().load("architectures", Choice(address))
    else:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(place))
    component: type[Any] = found
    return component
