"""Loading: the class or command that a target or a location names, imported inside the guard."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.hooks import KINDS
from ganzoo.contract.paths import absolute_path, is_file
from ganzoo.registry import guard
from ganzoo.registry.guard import Note, guarded_import, patience_with
from ganzoo.registry.source import PLUGIN_ERRORS, error_with_line, refuse_other_api, source, source_location


def load_target(target: str, owner: str, note: Note) -> Any:
    """What `package.module:Class` names, imported now. Raises GanzooError with the owner where that fails."""
    # torch first: its import is not counted as the plugin's, and the guard can then watch its settings
    import_module("torch")
    return _import_target(target, owner, note)


def load_command(target: str, owner: str, note: Note) -> click.Command:
    """The click command that `package.module:attribute` names. Raises GanzooError with the owner where that fails."""
    refuse_other_api(source(target), owner)
    loaded = _import_target(target, owner, note)  # torch is imported only if the command needs it
    if not isinstance(loaded, click.Command):
        raise GanzooError(f"{owner} cannot be run: {target} is {type(loaded).__name__}, not a click command.")
    return loaded


def _import_target(target: str, owner: str, note: Note) -> Any:
    module, _, attribute = target.partition(":")
    try:
        with guarded_import(owner, note, patience_with(target, guard.SLOW_IMPORT)):
            return functools.reduce(getattr, attribute.split("."), import_module(module))
    except PLUGIN_ERRORS as error:
        raise GanzooError(f"{owner} cannot be loaded: {error_with_line(error, source(target))}") from error


def load_location(location: str, note: Note) -> Any:
    """The class that `FILE.py:Class` names; the file is executed once. Raises UsageError or GanzooError."""
    text, _, attribute = location.rpartition(":")
    path = absolute_path(text)
    if not is_file(path):
        raise UsageError(f"There is no file {text}; a location is written FILE.py:Class.")
    name = f"ganzoo_location_{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
    if name not in sys.modules:
        refuse_other_api(path, text)
        import_module("torch")
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{text} is not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with guarded_import(text, note):
                spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if not isinstance(error, PLUGIN_ERRORS):
                raise
            raise GanzooError(
                f"{text} cannot be loaded: {error_with_line(error, path)}{_python_path_hint(error, path)}"
            ) from error
    loaded = getattr(sys.modules[name], attribute, None)
    if loaded is None:
        classes = [key for key, value in vars(sys.modules[name]).items() if isinstance(value, type)]
        raise UsageError(f"{text} has no class {attribute!r}.{did_you_mean(attribute, classes)}")
    return loaded


def checked_class(kind: str, loaded: Any, owner: str) -> type[Any]:
    """`loaded`, if it is a class of that kind without abstract methods. Raises GanzooError with the owner if not."""
    from ganzoo.contract.components import BASES

    base = BASES[kind]
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise GanzooError(
            f"{owner} is not a ganzoo.{KINDS[kind]}: it must be a class derived from it{source_location(loaded)}."
        )
    missing = sorted(getattr(loaded, "__abstractmethods__", ()))
    if missing:
        raise GanzooError(f"{owner} is not complete: it does not define {', '.join(missing)}{source_location(loaded)}.")
    return loaded


def _python_path_hint(error: BaseException, path: Path) -> str:
    """What to do where a file imports another file of its folder: Python does not search that folder."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    neighbours = [path.with_name(f"{name}.py"), path.with_name(name) / "__init__.py"] if name else []
    if not any(map(Path.exists, neighbours)):
        return ""
    return f"; {name} lies beside it: set PYTHONPATH={shlex.quote(str(path.parent))} for Python to find it."
