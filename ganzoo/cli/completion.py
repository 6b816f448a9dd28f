"""Completion in the shell: runs, saved generators, options and recipes of an architecture, and names of parts.

Everything is read from names of files, package metadata and source text. No part is imported, because importing torch
takes longer than a user waits for a completion.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from click.shell_completion import CompletionItem

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import KINDS
from ganzoo.storage.run_search import find_runs

#: folders that are searched for runs: a home folder has too many to look into all
_MOST_FOLDERS = 400
#: runs that are offered at most
_MOST_RUNS = 200
#: classes above a class that are searched for its constructor
_MOST_BASES = 5


# --- runs ---


def run_items(incomplete: str) -> list[CompletionItem]:
    """The runs whose path begins with this text, the newest first; the shell's folders where there is none."""
    typed, _, _ = incomplete.rpartition("/")
    folder = Path(os.path.expanduser(typed) or "/") if "/" in incomplete else Path()
    found = []
    for run in find_runs(folder, most_folders=_MOST_FOLDERS):
        below = run.relative_to(folder).as_posix()
        text = f"{typed}/{below}" if "/" in incomplete else below
        if text.startswith(incomplete) and below != ".":
            found.append((_modified(run), text))
        if len(found) == _MOST_RUNS:
            break
    items = [CompletionItem(text) for _, text in sorted(found, reverse=True)]
    return items or [CompletionItem(incomplete, type="dir")]


def _modified(run: Path) -> float:
    with suppress(OSError):
        return (run / "stats.jsonl").stat().st_mtime
    return 0.0


def moment_items(run: Path | None, incomplete: str) -> list[CompletionItem]:
    """The values of --at: `best`, and the images seen by each saved generator of the run, the newest first."""
    items = []
    if run is not None:
        with suppress(OSError):
            names = [name.partition(".") for name in os.listdir(run / "generators")]
            seen = sorted({int(name) for name, _, suffix in names if suffix == "safetensors" and name.isdecimal()})
            items = [CompletionItem(str(images), help="images seen") for images in reversed(seen)]
    if run is None or (run / "scores.jsonl").exists():
        items.insert(0, CompletionItem("best", help="by the scores of the training"))
    return [item for item in items if item.value.startswith(incomplete)]


# --- parts ---


class _Option(NamedTuple):
    """An option of a part, as its constructor is written."""

    name: str
    help: str
    values: list[str]
    is_path: bool
    #: whether it has to be given: a path without a default
    is_needed: bool


def part_items(kind: str, incomplete: str) -> list[CompletionItem]:
    """Names of a kind, and after `NAME:` the options of that part; files of a location, folders of a dataset."""
    if incomplete.startswith((".", "/", "~")):
        return [CompletionItem(incomplete, type="dir" if kind == "datasets" else "file")]
    name, colon, text = incomplete.partition(":")
    if colon:
        before, comma, pair = text.rpartition(",")
        return _pair_items(_options(kind, Choice(name)), pair, f"{name}:{before}{comma}")
    from ganzoo.registry.zoo import zoo

    items = [CompletionItem(each) for each in zoo().names(kind) if each.startswith(name)]
    if len(items) == 1:
        needed = [option.name for option in _options(kind, Choice(items[0].value)) if option.is_needed]
        items = [CompletionItem(f"{items[0].value}:{needed[0]}=")] if needed else items
    return items


def any_part_items(incomplete: str) -> list[CompletionItem]:
    """Names of every kind."""
    if incomplete.startswith((".", "/", "~")):
        return [CompletionItem(incomplete, type="file")]
    from ganzoo.registry.zoo import zoo

    names = [name for kind in KINDS for name in zoo().names(kind)]
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


def option_items(architecture: Choice | None, dataset: Choice | None, incomplete: str) -> list[CompletionItem]:
    """The values of -o: `width=` of the architecture, `dataset.size=` of the dataset."""
    if incomplete.startswith("dataset."):
        return _pair_items(_options("datasets", dataset), incomplete.removeprefix("dataset."), "dataset.")
    items = _pair_items(_options("architectures", architecture), incomplete)
    if "dataset.".startswith(incomplete):
        items += _pair_items(_options("datasets", dataset), "", "dataset.")
    return items


def recipe_items(architecture: Choice | None, incomplete: str) -> list[CompletionItem]:
    """The variants of the architecture; files where none begins with this text."""
    found = _class_of("architectures", architecture)
    names = _recipe_names(found[1]) if found else []
    items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return items or [CompletionItem(incomplete, type="file")]


def _pair_items(options: list[_Option], pair: str, before: str = "") -> list[CompletionItem]:
    """`key=` for the options that begin with `pair`, or the values of the option `key=...`."""
    key, equals, value = pair.partition("=")
    if not equals:
        return [CompletionItem(f"{before}{o.name}=", help=o.help or None) for o in options if o.name.startswith(key)]
    option = next((option for option in options if option.name == key), None)
    if option is None:
        return []
    values = _paths(value) if option.is_path else [each for each in option.values if each.startswith(value)]
    return [CompletionItem(f"{before}{key}={each}") for each in values]


def _paths(incomplete: str) -> list[str]:
    """The files and folders that begin with this text, with their slash; not the hidden ones unless a dot is typed."""
    folder, slash, begin = incomplete.rpartition("/")
    found = []
    with suppress(OSError), os.scandir(os.path.expanduser(f"{folder}{slash}") or ".") as entries:
        for entry in entries:
            if entry.name.startswith(begin) and (begin or not entry.name.startswith(".")):
                found.append(f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}")
    return sorted(found)


# --- classes as they are written ---


def _options(kind: str, choice: Choice | None) -> list[_Option]:
    """The options of a part, read from the constructor in its source file; none where that is not found."""
    found = _class_of(kind, choice)
    for _ in range(_MOST_BASES):
        if found is None:
            break
        file, node = found
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                arguments = zip(inner.args.kwonlyargs, inner.args.kw_defaults, strict=True)
                return [_option(argument, default) for argument, default in arguments if argument.arg != "split"]
        found = _base_of(file, node)
    return []


def _class_of(kind: str, choice: Choice | None) -> tuple[Path, ast.ClassDef] | None:
    """The source file of a part, and its class there."""
    if choice is None:
        return None
    from ganzoo.registry.source import source
    from ganzoo.registry.zoo import zoo

    if choice.is_location:
        file, _, name = choice.name.rpartition(":")
        return _class_in(Path(os.path.expanduser(file)), name)
    try:
        target = zoo().find(kind, choice.name).target
    except GanzooError:
        return None
    return _class_in(source(target), target.partition(":")[2])


def _class_in(file: Path | None, name: str) -> tuple[Path, ast.ClassDef] | None:
    tree = _tree(file) if file else None
    for node in tree.body if tree else []:
        if isinstance(node, ast.ClassDef) and node.name == name and file:
            return file, node
    return None


@cache
def _tree(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


def _base_of(file: Path, node: ast.ClassDef) -> tuple[Path, ast.ClassDef] | None:
    """The first base of a class that is in its file, or in a module that the file imports it from."""
    from ganzoo.registry.source import source

    tree = _tree(file)
    for base in (base.id for base in node.bases if isinstance(base, ast.Name)):
        if found := _class_in(file, base):
            return found
        for line in tree.body if tree else []:
            if isinstance(line, ast.ImportFrom) and any((a.asname or a.name) == base for a in line.names):
                original = next(alias.name for alias in line.names if (alias.asname or alias.name) == base)
                return _class_in(source(f"{line.module}:{original}"), original)
    return None


def _option(argument: ast.arg, default: ast.expr | None) -> _Option:
    """An option from its annotation, `Annotated[int, ..., "help"]`."""
    words = list(_words(argument.annotation)) if argument.annotation else []
    text = ast.unparse(argument.annotation) if argument.annotation else ""
    values = ["true", "false"] if re.match(r"(Annotated\[)?bool\b", text) else []
    help = ""
    if isinstance(argument.annotation, ast.Subscript) and isinstance(argument.annotation.slice, ast.Tuple):
        last = argument.annotation.slice.elts[-1]
        help = last.value if isinstance(last, ast.Constant) and isinstance(last.value, str) else ""
    is_path = "click.Path" in text
    empty = isinstance(default, ast.Constant) and default.value == ""
    return _Option(argument.arg, help, values or words, is_path, is_path and empty)


def _words(annotation: ast.expr) -> Iterator[str]:
    """The values of a `Literal[...]` or a `click.Choice([...])` in an annotation."""
    for node in ast.walk(annotation):
        inner: list[ast.expr] = []
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
            inner = [node.slice]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "click.Choice":
            inner = list(node.args[:1])
        for each in inner:
            yield from (str(found.value) for found in ast.walk(each) if isinstance(found, ast.Constant))


def _recipe_names(node: ast.ClassDef) -> list[str]:
    """The keys of the class attribute `recipes`."""
    for line in node.body:
        targets = getattr(line, "targets", [getattr(line, "target", None)])
        named = any(isinstance(target, ast.Name) and target.id == "recipes" for target in targets)
        value = getattr(line, "value", None)
        if named and isinstance(value, ast.Dict):
            return [str(key.value) for key in value.keys if isinstance(key, ast.Constant)]
    return []
