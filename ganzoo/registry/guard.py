"""The guard: a plugin's code must leave the settings of the process as they were."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import math
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

#: seconds of CPU time that the import of one part of a third-party plugin may take without a warning
SLOW_IMPORT = 10.0
#: the same for a module with hooks, which every listing imports
SLOW_LISTING = 1.0
#: packages of this project; there is no warning for a slow import of them, since a user could do nothing about it
FIRST_PARTY_PACKAGES = ("ganzoo", "ganzoo_plugins")


def patience_with(target: str, seconds: float) -> float:
    """The CPU seconds that the import of `package.module:Class` may take without a warning."""
    return math.inf if target.partition(":")[0].partition(".")[0] in FIRST_PARTY_PACKAGES else seconds


Note = Callable[[str], None]


def print_to_stderr(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(f"{text}\n")


# --- the settings of a process ---


@dataclasses.dataclass(frozen=True)
class Setting:
    """Something that belongs to the whole process: its name, and how to read it and to write it back."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]


def process_settings(*, everything: bool = False) -> Iterator[Setting]:
    """The settings that a plugin must leave alone, without the random states.

    Those of NumPy and torch are left out while the library is not imported. With `everything` also those that a
    library may change for good reasons when it is imported: the conformance kit is that strict.
    """
    yield Setting("the working directory", os.getcwd, os.chdir)
    yield Setting("the environment", *_environment(everything))
    if threading.current_thread() is threading.main_thread():  # handlers can be set in the main thread only
        for number in signal.Signals:
            write = functools.partial(signal.signal, number)
            yield Setting(f"the handler of {number.name}", functools.partial(signal.getsignal, number), write)
    if torch := sys.modules.get("torch"):
        yield from _torch_settings(torch)
    if everything:
        yield from _strict_settings()


def random_states() -> Iterator[Setting]:
    """The states of the global random generators: torch's on the CPU, NumPy's and Python's."""
    if torch := sys.modules.get("torch"):
        yield Setting("torch's random state", *_torch_random(torch))
    if numpy := sys.modules.get("numpy"):
        yield Setting("NumPy's random state", *_numpy_random(numpy))
    yield Setting("Python's random state", random.getstate, random.setstate)


def _torch_settings(torch: Any) -> Iterator[Setting]:
    def set_device(device: Any) -> None:
        torch.set_default_device(None if device.type == "cpu" else device)

    yield Setting("torch's default device", torch.get_default_device, set_device)
    yield Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads)
    yield Setting("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled)
    deterministic = torch.are_deterministic_algorithms_enabled
    yield Setting("torch's deterministic mode", deterministic, torch.use_deterministic_algorithms)
    for name in ("benchmark", "deterministic"):
        write = functools.partial(setattr, torch.backends.cudnn, name)
        yield Setting(f"cudnn.{name}", functools.partial(getattr, torch.backends.cudnn, name), write)


def _strict_settings() -> Iterator[Setting]:
    def set_path(entries: list[str]) -> None:
        sys.path[:] = entries

    def set_filters(filters: list[Any]) -> None:
        warnings.filters[:] = filters  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]

    def set_streams(streams: tuple[Any, Any]) -> None:
        sys.stdout, sys.stderr = streams

    if torch := sys.modules.get("torch"):
        yield Setting("torch's anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly)
    if numpy := sys.modules.get("numpy"):
        yield Setting("NumPy's error handling", numpy.geterr, lambda values: numpy.seterr(**values))
    yield Setting("the module search path", lambda: list(sys.path), set_path)
    yield Setting("the warning filters", lambda: list(warnings.filters), set_filters)
    yield Setting("the standard streams", lambda: (sys.stdout, sys.stderr), set_streams)
    yield Setting("the exception hook", lambda: sys.excepthook, functools.partial(setattr, sys, "excepthook"))


def _environment(everything: bool) -> tuple[Callable[[], dict[str, str]], Callable[[dict[str, str]], None]]:
    # some libraries add variables of their own when they are imported, scikit-learn does: these are not looked at
    known = set(os.environ)

    def read() -> dict[str, str]:
        return {k: value for k, value in os.environ.items() if everything or k in known or k.startswith("GANZOO")}

    def write(before: dict[str, str]) -> None:
        for key in read().keys() - before.keys():
            del os.environ[key]
        os.environ.update(before)

    return read, write


def _torch_random(torch: Any) -> tuple[Callable[[], bytes], Callable[[bytes], None]]:
    def read() -> bytes:
        return bytes(torch.get_rng_state().tolist())

    def write(state: bytes) -> None:
        torch.set_rng_state(torch.tensor(list(state), dtype=torch.uint8))

    return read, write


def _numpy_random(numpy: Any) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    def read() -> Any:
        name, keys, *rest = numpy.random.get_state()
        return name, keys.tobytes(), *rest

    def write(state: Any) -> None:
        name, keys, *rest = state
        numpy.random.set_state((name, numpy.frombuffer(keys, dtype=numpy.uint32), *rest))

    return read, write


def read_settings(settings: Iterable[Setting]) -> list[tuple[Setting, Any]]:
    """Each setting with its value now; None for one that cannot be read."""
    return [(setting, _read(setting)) for setting in settings]


def changed_settings(before: Iterable[tuple[Setting, Any]]) -> Iterator[tuple[Setting, Any, Any]]:
    """Each setting that has another value now, with the value before and the value now."""
    for setting, value in before:
        now = _read(setting)
        if now != value and value is not None:
            yield setting, value, now


def _read(setting: Setting) -> Any:
    try:
        return setting.read()
    except OSError:  # the working directory was removed
        return None


def difference(before: Any, after: Any) -> str:
    """What changed in a setting, ` from 1 to 2`; empty where its values are long or are objects."""
    if isinstance(before, dict):
        return f" ({', '.join(sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k)))})"
    text = f" from {before} to {after}"
    return "" if isinstance(before, bytes | tuple | list) or "<" in text else text


# --- the guard ---


@contextlib.contextmanager
def restoring_process_state(owner: str, note: Note, draws: bool = False) -> Iterator[None]:
    """A plugin's code runs inside: each setting of the process that it changes is written back, with a warning.

    What the code prints goes to stderr, since stdout is for results. With `draws` it may draw from the global random
    generators.
    """
    before = read_settings([*process_settings(), *(() if draws else random_states())])
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for setting, value, now in changed_settings(before):
            setting.write(value)
            note(f"Warning: {owner} changed {setting.name}{difference(value, now)}; that was put back.")


@contextlib.contextmanager
def guarded_import(owner: str, note: Note, patience: float | None = None) -> Iterator[None]:
    """`restoring_process_state` around an import, with a warning if it prints or takes over `patience` seconds.

    Only the CPU time of this thread counts: on a busy machine an import takes long through no fault of the plugin.
    """
    printed = io.StringIO()
    started = time.thread_time()
    try:
        with restoring_process_state(owner, note), contextlib.redirect_stdout(printed):
            yield
    finally:
        seconds = time.thread_time() - started
        if text := printed.getvalue().strip():
            note(f"Warning: {owner} prints when it is imported: {text.splitlines()[0][:80]!r}.")
        if seconds > (SLOW_IMPORT if patience is None else patience):
            note(
                f"Warning: {owner} took {seconds:.1f} s of CPU time to import; let it import libraries where they are "
                f"used."
            )
