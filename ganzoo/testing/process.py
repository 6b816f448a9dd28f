"""The process a part runs in: what it is made of, whether it was changed, and how it is put back."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def _put_environment(values: dict[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


def _put_signals(handlers: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _put_path(entries: list[str]) -> None:
    sys.path[:] = entries


def _put_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _put_streams(streams: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = streams


def _put_cudnn(flags: tuple[bool, bool]) -> None:
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = flags


#: what belongs to the process and not to a part: how it is read and how it is put back
_FACTS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (lambda: str(torch.get_default_device()), torch.set_default_device),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "cudnn flags": (lambda: (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic), _put_cudnn),
    "numpy error handling": (np.geterr, lambda values: np.seterr(**values)),
    "working directory": (os.getcwd, os.chdir),
    "environment variables": (lambda: dict(os.environ), _put_environment),
    "module search path": (lambda: list(sys.path), _put_path),
    "warning filters": (lambda: list(warnings.filters), _put_filters),
    "signal handlers": (lambda: {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}, _put_signals),
    "standard streams": (lambda: (sys.stdout, sys.stderr), _put_streams),
    "exception hook": (lambda: sys.excepthook, lambda hook: setattr(sys, "excepthook", hook)),
}


def random_state() -> tuple[bytes, bytes, bytes]:
    """The state of all global generators on the CPU, torch's, numpy's and Python's, to be compared."""
    return bytes(torch.get_rng_state().numpy()), pickle.dumps(np.random.get_state()), pickle.dumps(random.getstate())


@contextmanager
def restoring_process() -> Iterator[None]:
    """Whatever happens inside, the process and its random state are as before."""
    before = {name: read() for name, (read, _) in _FACTS.items()}
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        for name, (read, put) in _FACTS.items():
            if read() != before[name]:
                put(before[name])
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def changes(action: Callable[[], Any]) -> list[str]:
    """What of the process an action changes, in words; afterwards it is put back.

    Beforehand it is given settings that nobody would choose, so that setting the usual ones shows.
    """
    found = []
    printed = io.StringIO()
    with restoring_process():
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(3)
        _put_signals({signal.SIGINT: lambda *_: None, signal.SIGTERM: lambda *_: None})
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            before = {name: read() for name, (read, _) in _FACTS.items()}
            action()
            for name, (read, _) in _FACTS.items():
                if read() != before[name]:
                    found.append(f"the {name}{_both(before[name], read())}")
        if printed.getvalue().strip():
            found.append(f"the terminal, on which it writes {printed.getvalue().strip().splitlines()[0]!r}")
    return found


def _both(before: Any, after: Any) -> str:
    short = f" from {before} to {after}"
    return short if len(short) < 60 and "<" not in short else ""


def _no_network(*_: Any, **__: Any) -> Any:
    raise OSError("the conformance kit lets nothing onto the network")


@contextmanager
def offline() -> Iterator[None]:
    """No connection can be made: a check fetches nothing, and says so where a part would."""
    kept = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect, socket.getaddrinfo = _no_network, _no_network  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = kept  # type: ignore[method-assign]


@contextmanager
def isolated() -> Iterator[None]:
    """Where a check is run: offline, and with the process put back afterwards."""
    with restoring_process(), offline():
        os.environ["GANZOO_OFFLINE"] = "1"
        yield
