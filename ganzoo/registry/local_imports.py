"""Beside: what a file of parts imports from its own folder, read without importing anything."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

#: packages of ours, which have a version, although a file may lie beside their source
_OURS = ("ganzoo", "ganzoo_plugins")


def local_imports(file: Path) -> dict[str, str]:
    """sha256, by its path from the folder of `file`, of every file below it that `file` imports, directly or not.

    What is imported under a computed name is not seen.
    """
    found: dict[str, str] = {}
    waiting = [file]
    while waiting:
        for path in _imports(waiting.pop(), file.parent):
            name = path.relative_to(file.parent).as_posix()
            if path != file and name not in found:
                try:
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
                except OSError:
                    continue  # whoever imports it is told
                waiting.append(path)
    return dict(sorted(found.items()))


def _imports(file: Path, root: Path) -> Iterator[Path]:
    """The files below `root` that one file imports."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [(root, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            place = file.parents[min(node.level, len(file.parents)) - 1] if node.level else root
            base = node.module or ""
            names = [(place, base), *((place, f"{base}.{alias.name}") for alias in node.names)]  # a name, or a module
        else:
            continue
        for place, name in names:
            if place.is_relative_to(root) and name.partition(".")[0] not in _OURS:
                yield from _files(place, name)


def _files(place: Path, name: str) -> Iterator[Path]:
    """`a.b` as files: what is run on the way to it, and itself."""
    for part in filter(None, name.split(".")):
        for path in (place / part / "__init__.py", place / f"{part}.py"):
            if path.is_file():
                yield path
                break
        place = place / part
