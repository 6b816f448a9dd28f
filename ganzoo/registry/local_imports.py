"""The files that a file with parts imports from its own folder, found by reading the source."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ganzoo.registry.guard import FIRST_PARTY_PACKAGES


def local_imports(file: Path) -> dict[str, str]:
    """The sha256 of every file in the folder of `file` that `file` imports, directly or not, by its relative path.

    Imports under a computed name are not found.
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
                    continue  # the import itself raises an error
                waiting.append(path)
    return dict(sorted(found.items()))


def _imports(file: Path, root: Path) -> Iterator[Path]:
    """The files below the folder `root` that one file imports."""
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
            names = [
                (place, base),
                *((place, f"{base}.{alias.name}") for alias in node.names),
            ]  # the name may be a module
        else:
            continue
        for place, name in names:
            # packages of this project are recorded by their version, also where the file lies beside their source
            if place.is_relative_to(root) and name.partition(".")[0] not in FIRST_PARTY_PACKAGES:
                yield from _files(place, name)


def _files(place: Path, name: str) -> Iterator[Path]:
    """The files of the module `a.b`: those of the packages around it, and its own."""
    for part in filter(None, name.split(".")):
        for path in (place / part / "__init__.py", place / f"{part}.py"):
            if os.path.isfile(path):  # False, not an error, in a folder that may not be entered
                yield path
                break
        place = place / part
