"""Loading: from a place in a module or file to a class, with a guard around whatever its author lets happen there."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import io
import os
import random
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import ganzoo
from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.hooks import KINDS
from ganzoo.contract.paths import whole

#: seconds an import may take unremarked: of a part that was named, and of a module that every listing imports
SLOW_IMPORT = 10.0
SLOW_LISTING = 1.0
#: what a plugin's code may raise without ending the program; not Ctrl-C, nor what other signals raise
RAISED = (Exception, SystemExit, GeneratorExit)
_OWN = str(Path(__file__).parent)

Note = Callable[[str], None]


def say(text: str) -> None:
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
def unchanged(owner: str, note: Note, draws: bool = False) -> Iterator[None]:
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
def importing(owner: str, note: Note, patience: float | None = None) -> Iterator[None]:
    """`unchanged` for the time of an import, which is also to be silent and over in `patience` seconds."""
    heard = io.StringIO()
    started = time.perf_counter()
    try:
        with unchanged(owner, note), contextlib.redirect_stdout(heard):
            yield
    finally:
        seconds = time.perf_counter() - started
        if text := heard.getvalue().strip():
            note(f"Warning: {owner} prints when it is imported: {text.splitlines()[0][:80]!r}.")
        if seconds > (patience or SLOW_IMPORT):
            note(f"Warning: {owner} took {seconds:.1f} s to import; let it import libraries where they are used.")


# --- from a place to a class ---


def load_target(target: str, owner: str, note: Note) -> Any:
    """What `package.module:Class` names, imported now. Raises GanzooError, naming the owner, where it cannot be."""
    module, _, attribute = target.partition(":")
    import_module("torch")  # its settings are watched from here on, and its import is nobody else's
    try:
        with importing(owner, note):
            return functools.reduce(getattr, attribute.split("."), import_module(module))
    except RAISED as error:
        raise GanzooError(f"{owner} cannot be loaded: {cause(error, source(target))}") from error


def load_location(location: str, note: Note) -> Any:
    """The class that `FILE.py:Class` names; the file is executed once. Raises UsageError or GanzooError."""
    text, _, attribute = location.rpartition(":")
    path = whole(text)
    if not path.is_file():
        raise UsageError(f"There is no file {text}; a location is written FILE.py:Class.")
    name = f"ganzoo_location_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        refuse_other_api(path, text)
        import_module("torch")
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{text} is not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with importing(text, note):
                spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if not isinstance(error, RAISED):
                raise
            raise GanzooError(f"{text} cannot be loaded: {cause(error, path)}{_beside(error, path)}") from error
    loaded = getattr(sys.modules[name], attribute, None)
    if loaded is None:
        classes = [key for key, value in vars(sys.modules[name]).items() if isinstance(value, type)]
        raise UsageError(f"{text} has no class {attribute!r}.{did_you_mean(attribute, classes)}")
    return loaded


def checked_class(kind: str, loaded: Any, owner: str) -> type[Any]:
    """`loaded`, if it is a whole class of that kind. Raises GanzooError, naming the owner, if not."""
    base = getattr(ganzoo, KINDS[kind])
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise GanzooError(f"{owner} is not a ganzoo.{KINDS[kind]}: it must be a class derived from it{place(loaded)}.")
    missing = sorted(getattr(loaded, "__abstractmethods__", ()))
    if missing:
        raise GanzooError(f"{owner} is not complete: it does not define {', '.join(missing)}{place(loaded)}.")
    return loaded


# --- what can be said without importing anything ---


def source(target: str) -> Path | None:
    """The file of `package.module:Class`, found without importing anything; None where there is none."""
    top, *inner = target.partition(":")[0].split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    roots = list(spec.submodule_search_locations or []) if spec else []
    candidates = [Path(root, *inner).with_suffix(".py") for root in roots] if inner else []
    candidates += [Path(root, *inner, "__init__.py") for root in roots]
    if spec and spec.origin and not inner:
        candidates.append(Path(spec.origin))
    return next((path for path in candidates if path.is_file()), None)


def declared_api(path: Path) -> int | None:
    """The number in a module's line `ganzoo_api = 1`, read without importing it; None where it says nothing."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError):
        return None
    for node in body:
        names = [name.id for name in node.targets if isinstance(name, ast.Name)] if isinstance(node, ast.Assign) else []
        if "ganzoo_api" in names and isinstance(node.value, ast.Constant) and isinstance(node.value.value, int):  # type: ignore[attr-defined]
            return int(node.value.value)  # type: ignore[attr-defined]
    return None


def refuse_other_api(path: Path | None, owner: str) -> None:
    """Raise GanzooError where a module declares another version of the contract than this one."""
    declared = declared_api(path) if path else None
    if declared not in (None, ganzoo.API_VERSION):
        older = (declared or 0) < ganzoo.API_VERSION
        raise GanzooError(
            f"{owner} was written for version {declared} of the contract ({path}: ganzoo_api = {declared}), and this "
            f"is version {ganzoo.API_VERSION}: install a newer release of "
            f"{'the plugin' if older else 'torch-ganzoo'}."
        )


# --- errors, in words ---


def cause(error: BaseException, home: Path | None = None) -> str:
    """`ImportError: no module x (file.py, line 3)`: the kind, the words, and the innermost line of `home`.

    Where no line of `home` is in the traceback, the innermost one that is not ours.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [f for f in reversed(traceback.extract_tb(error.__traceback__)) if "importlib" not in f.filename]
    theirs = [frame for frame in frames if not frame.filename.startswith(_OWN)]
    here = next((f for f in frames if home and f.filename == str(home)), theirs[0] if theirs else None)
    words = str(error).strip().splitlines()
    where = f" ({here.filename}, line {here.lineno})" if here else ""
    return f"{type(error).__name__}: {words[0] if words else 'no message'}{where}"


def _beside(error: BaseException, path: Path) -> str:
    """What to do where a file wants to import its neighbour, which Python does not look for there."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    neighbours = [path.with_name(f"{name}.py"), path.with_name(name) / "__init__.py"] if name else []
    if not any(map(Path.exists, neighbours)):
        return ""
    return f"; {name} lies beside it: set PYTHONPATH={shlex.quote(str(path.parent))} for Python to find it."


def words(error: BaseException) -> str:
    """A sentence of ours as it is, anything else as its cause."""
    return str(error) if isinstance(error, GanzooError) else cause(error)


def file_of(loaded: Any) -> Path | None:
    """The file of a class or function; None where it has none."""
    try:
        return Path(inspect.getsourcefile(loaded) or "")
    except (OSError, TypeError):
        return None


def place(loaded: Any) -> str:
    """` (file.py, line 3)` of a class or function; empty where it has none."""
    try:
        return f" ({file_of(loaded)}, line {inspect.getsourcelines(loaded)[1]})"
    except (OSError, TypeError):
        return ""
