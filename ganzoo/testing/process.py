"""Isolation of the checks: settings of the process are compared and restored, and network access is blocked."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ganzoo.registry.guard import changed_settings, difference, process_settings, random_states, read_settings


def random_state() -> tuple[Any, ...]:
    """The states of torch's, NumPy's and Python's global generators on the CPU, in this order, to be compared."""
    return tuple(setting.read() for setting in random_states())


@contextmanager
def restoring_process() -> Iterator[None]:
    """Context manager: restores the settings of the process and its random states at the end."""
    before = read_settings([*process_settings(everything=True), *random_states()])
    try:
        yield
    finally:
        for setting, value, _ in changed_settings(before):
            setting.write(value)


def changes(action: Callable[[], Any]) -> list[str]:
    """The settings of the process that an action changes, and what it prints, as text. They are restored afterwards.

    Before the action some settings are given unusual values, so that a change to the usual one is noticed.
    """
    printed = io.StringIO()
    with restoring_process():
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(3)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            before = read_settings(process_settings(everything=True))
            action()
            found = [f"{setting.name}{difference(value, now)}" for setting, value, now in changed_settings(before)]
        if printed.getvalue().strip():
            found.append(f"the terminal, on which it writes {printed.getvalue().strip().splitlines()[0]!r}")
    return found


def _no_network(*_: Any, **__: Any) -> Any:
    raise OSError("the conformance kit blocks network connections")


@contextmanager
def offline() -> Iterator[None]:
    """Context manager: no network connection can be made; an attempt raises OSError.

    A socket in the file system is no network: by it a library talks to a process that it has started itself.
    """
    original = socket.socket.connect, socket.getaddrinfo

    def connect(own: socket.socket, address: Any) -> None:
        local = own.family == getattr(socket, "AF_UNIX", None)
        original[0](own, address) if local else _no_network()

    socket.socket.connect, socket.getaddrinfo = connect, _no_network  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = original  # type: ignore[method-assign]


@contextmanager
def isolated() -> Iterator[None]:
    """Context manager for a check: no network, and the state of the process is restored at the end."""
    with restoring_process(), offline():
        os.environ["GANZOO_OFFLINE"] = "1"
        yield
