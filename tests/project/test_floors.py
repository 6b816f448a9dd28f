"""The plan of the house, in code: imports run one way, the engine names no method, functions stay small."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from helpers import ZOO

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "ganzoo").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins" / "ganzoo_plugins").rglob("*.py"))

#: room -> its floor. A room may import the rooms below it and itself, also for type checkers only.
FLOORS = {
    "contract": 1,
    "engine": 2,
    "registry": 2,
    "storage": 2,
    "evaluation": 3,
    "training": 4,
    "results": 4,
    "testing": 4,
    "experiments": 5,
    "reports": 6,
    "api": 7,
    "server": 7,
    "cli": 8,
}
#: the two doors: names that are resolved when they are used, and `python -m ganzoo`
DOORS = {"__init__": {"contract", "storage"}, "__main__": {"cli"}}


def _room(path: Path) -> str:
    return path.relative_to(ROOT / "ganzoo").parts[0].removesuffix(".py")


def _imports(path: Path) -> list[str]:
    """The module of every import in a file, wherever it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += names if node.module == "ganzoo" else [node.module or ""]
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_upwards(path: Path) -> None:
    room = _room(path)
    for module in _imports(path):
        assert not module.startswith("ganzoo_plugins"), f"{path} imports a plugin"
        if module.startswith("ganzoo.") and (target := module.split(".")[1]) != room:
            allowed = target in DOORS[room] if room in DOORS else FLOORS[target] < FLOORS[room]
            assert allowed, f"{path}: {room} must not import {target}"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_knows_the_door_and_its_own_library(path: Path) -> None:
    kind = path.relative_to(ROOT / "plugins" / "ganzoo_plugins").parts[0]
    for module in _imports(path):
        assert not module.startswith("ganzoo."), f"{path} reaches past the door: {module}"
        if module.startswith("ganzoo_plugins."):
            _, target, *inner = module.split(".")
            private = bool(inner) and inner[0].startswith("_")
            assert target == "layers" or (target == kind and private), f"{path}: a part knows another part, {module}"


def test_the_engine_names_no_member() -> None:
    parts = ZOO.plugins["torch-ganzoo"].components
    assert len(parts) > 50
    names = {part.name for part in parts} - {"domain"}  # an ordinary word; the class below is looked for all the same
    classes = {part.target.rpartition(":")[2] for part in parts}
    for path in (ROOT / "ganzoo" / "engine").glob("*.py"):
        tree = ast.parse(path.read_text())
        words = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        words |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not words & names, f"{path} names {words & names}"
        assert not words & classes, f"{path} names {words & classes}"


def test_functions_stay_small() -> None:
    long = []
    for path in [*CORE, *PLUGINS]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60:
                decorated = any("command" in ast.unparse(d) for d in node.decorator_list)
                if not decorated:  # a command's length is its list of options
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not long, long


def test_nothing_of_this_machine_is_written_down() -> None:
    # a path of a home or a work folder would mean nothing to anybody else
    pattern = re.compile(r"/(home|Users|root|work)/\w+")
    for path in [*CORE, *PLUGINS, ROOT / "README.md", ROOT / "Makefile", *(ROOT / "docs").glob("*.md")]:
        assert not pattern.search(path.read_text()), path
