"""The source file of a part: found and read without an import, and named in error messages."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import traceback
from pathlib import Path
from typing import Any

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import API_VERSION

#: what is caught around a plugin's code; not KeyboardInterrupt, nor what the handlers of other signals raise
PLUGIN_ERRORS = (Exception, SystemExit, GeneratorExit)
#: the folder of this package: an error message never names a line in it as the cause of a plugin's error
_OWN = Path(__file__).parents[1]


# --- without an import ---


def source(target: str) -> Path | None:
    """The file of `package.module:Class`, found without importing it; None where there is none."""
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
    try:
        return next((path for path in candidates if path.is_file()), None)
    except OSError:  # a folder of sys.path that may not be entered: Python imports nothing from there either
        return None


def declared_api(path: Path) -> int | None:
    """The number in a module's line `ganzoo_api = 1`, read without importing it; None without such a line."""
    try:
        text = path.read_text(encoding="utf-8")
        body = ast.parse(text).body if "ganzoo_api" in text else []  # to parse every module takes long
    except (OSError, SyntaxError, ValueError):
        return None
    for node in body:
        names = [name.id for name in node.targets if isinstance(name, ast.Name)] if isinstance(node, ast.Assign) else []
        if "ganzoo_api" in names and isinstance(node.value, ast.Constant) and isinstance(node.value.value, int):  # type: ignore[attr-defined]
            return int(node.value.value)  # type: ignore[attr-defined]
    return None


def refuse_other_api(path: Path | None, owner: str) -> None:
    """Raise GanzooError where a module declares another version of the contract than `API_VERSION`."""
    declared = declared_api(path) if path else None
    if declared not in (None, API_VERSION):
        older = (declared or 0) < API_VERSION
        raise GanzooError(
            f"{owner} was written for version {declared} of the contract ({path}: ganzoo_api = {declared}), and this "
            f"is version {API_VERSION}: install a newer release of "
            f"{'the plugin' if older else 'torch-ganzoo'}."
        )


# --- errors as text ---


def error_with_line(error: BaseException, home: Path | None = None) -> str:
    """`ImportError: no module x (file.py, line 3)`: class, first line of the message, and innermost line in `home`.

    If no line of the file `home` is in the traceback, it is the innermost line outside this package.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [f for f in reversed(traceback.extract_tb(error.__traceback__)) if "importlib" not in f.filename]
    foreign = [frame for frame in frames if not Path(frame.filename).is_relative_to(_OWN)]
    frame = next((f for f in frames if home and f.filename == str(home)), foreign[0] if foreign else None)
    message = str(error).strip().splitlines()
    location = f" ({frame.filename}, line {frame.lineno})" if frame else ""
    return f"{type(error).__name__}: {message[0] if message else 'no message'}{location}"


def error_text(error: BaseException, home: Path | None = None) -> str:
    """The message of a GanzooError as it is; any other error as `error_with_line` writes it."""
    return str(error) if isinstance(error, GanzooError) else error_with_line(error, home)


def file_of(loaded: Any) -> Path | None:
    """The file of a class or function; None where it has none."""
    try:
        file = inspect.getsourcefile(loaded)
    except (OSError, TypeError):
        return None
    # for code that a string was compiled from, Python 3.13 returns `<string>`
    return Path(file) if file and not file.startswith("<") else None


def source_location(loaded: Any) -> str:
    """` (file.py, line 3)` of a class or function; empty where it has none."""
    try:
        return f" ({file_of(loaded)}, line {inspect.getsourcelines(loaded)[1]})"
    except (OSError, TypeError):
        return ""
