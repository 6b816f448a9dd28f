"""The guard: a plugin's code must leave the settings of the process as they were."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

#: seconds an import may take unremarked: of a part that was named, and of a module that every listing imports
SLOW_IMPORT = 10.0
SLOW_LISTING = 1.0

Note = Callable[[str], None]


def print_to_stderr(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"{text}\n")


# --- the guard ---


@dataclasses.dataclass(frozen=True)
class _Setting:
    """Something that belongs to the whole process: how to read it and how to put it back."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]


def _settings(draws: bool) -> Iterator[_Setting]:
    yield _Setting("the working directory", os.getcwd, os.chdir)
    yield _Setting("the environment", *_environment())
    if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
        for number in signal.Signals:
            put_back = functools.partial(signal.signal, number)
            yield _Setting(f"the handler of {number.name}", functools.partial(signal.getsignal, number), put_back)
    if not draws:
        yield _Setting("Python's random state", random.getstate, random.setstate)
        if numpy := sys.modules.get("numpy"):
            yield _Setting("NumPy's random state", *_numpy_random(numpy))
    if torch := sys.modules.get("torch"):
        yield from _torch_settings(torch, draws)


def _torch_settings(torch: Any, draws: bool) -> Iterator[_Setting]:
    def place(device: Any) -> None:
        torch.set_default_device(None if device.type == "cpu" else device)

    def seed(state: bytes) -> None:
        torch.set_rng_state(torch.tensor(list(state), dtype=torch.uint8))

    yield _Setting("torch's default device", torch.get_default_device, place)
    yield _Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield _Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads)
    yield _Setting("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled)
    deterministic = torch.are_deterministic_algorithms_enabled
    yield _Setting("torch's deterministic mode", deterministic, torch.use_deterministic_algorithms)
    for name in ("benchmark", "deterministic"):
        flag = functools.partial(setattr, torch.backends.cudnn, name)
        yield _Setting(f"cudnn.{name}", functools.partial(getattr, torch.backends.cudnn, name), flag)
    if not draws:
        yield _Setting("torch's random state", lambda: bytes(torch.get_rng_state().tolist()), seed)


def _environment() -> tuple[Callable[[], dict[str, str]], Callable[[dict[str, str]], None]]:
    # what a library adds for itself when it is imported, as scikit-learn does, is its own affair
    known = set(os.environ)

    def read() -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if key in known or key.startswith("GANZOO")}

    def write(before: dict[str, str]) -> None:
        for key in read().keys() - before.keys():
            del os.environ[key]
        os.environ.update(before)

    return read, write


def _numpy_random(numpy: Any) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    def read() -> Any:
        name, keys, *rest = numpy.random.get_state()
        return name, keys.tobytes(), *rest

    def write(state: Any) -> None:
        name, keys, *rest = state
        numpy.random.set_state((name, numpy.frombuffer(keys, dtype=numpy.uint32), *rest))

    return read, write


def _read(setting: _Setting) -> Any:
    try:
        return setting.read()
    except OSError:  # a working directory that is gone
        return None


def _difference(before: Any, after: Any) -> str:
    """What changed, where it can be said in a few words."""
    if isinstance(before, dict):
        return f" ({', '.join(sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k)))})"
    return "" if isinstance(before, bytes | tuple) else f" from {before} to {after}"


@contextlib.contextmanager
def restoring_process_state(owner: str, note: Note, draws: bool = False) -> Iterator[None]:
    """A while in which a plugin's code runs: what it changes for the whole process is put back, and said.

    What it prints goes to stderr, since stdout is for facts. With `draws` it may draw from global random states.
    """
    before = [(setting, _read(setting)) for setting in _settings(draws)]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for setting, value in before:
            now = _read(setting)
            if now != value and value is not None:
                setting.write(value)
                note(f"Warning: {owner} changed {setting.name}{_difference(value, now)}; that was put back.")


@contextlib.contextmanager
def guarded_import(owner: str, note: Note, patience: float | None = None) -> Iterator[None]:
    """`unchanged` for the time of an import, which is also to be silent and over in `patience` seconds."""
    heard = io.StringIO()
    started = time.perf_counter()
    try:
        with restoring_process_state(owner, note), contextlib.redirect_stdout(heard):
            yield
    finally:
        seconds = time.perf_counter() - started
        if text := heard.getvalue().strip():
            note(f"Warning: {owner} prints when it is imported: {text.splitlines()[0][:80]!r}.")
        if seconds > (patience or SLOW_IMPORT):
            note(f"Warning: {owner} took {seconds:.1f} s to import; let it import libraries where they are used.")
