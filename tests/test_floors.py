"""The plan of the house, in code: imports run one way, the engine names no method, functions stay small."""

from __future__ import annotations

import ast
import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "ganzoo").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins" / "ganzoo_plugins").rglob("*.py"))

#: room -> the rooms of ganzoo it may import; a room may always import itself
VERBS = {"train", "sample", "evaluate", "benchmark", "speedrun", "calibrate", "replay"}
FLOOR_1 = {"contract", "checkpoint", "pictures", "signals", "statistics", "watch", "writer", "importing"}
MAY_IMPORT = {
    "contract": set(),
    "checkpoint": {"contract"},
    "pictures": {"checkpoint"},
    "importing": {"contract", "checkpoint"},
    "signals": {"contract"},
    "statistics": {"contract", "checkpoint"},
    "watch": set(),
    "writer": set(),
    "engine": {"contract"},
    "damage": {"contract", "engine"},
    "scale": {"damage"},
    "loading": {"contract"},
    "promises": {"contract", "loading"},
    "beside": set(),
    "zoo": {"beside", "contract", "loading", "promises"},
    "lock": {"contract", "checkpoint"},
    "run": {"contract", "checkpoint", "lock"},
    "observers": {"contract", "loading", "run"},
    "assembly": {"contract", "checkpoint", "engine", "zoo", "run"},
    "feature_pass": {"contract", "loading", "zoo", "statistics"},
    "scoring": {"contract", "engine", "zoo", "assembly", "statistics", "feature_pass"},
    "changes": {"contract", "run"},
    "diagnosis": {"contract", "engine"},
    "rehearsal": {"contract", "engine", "loading", "promises", "zoo", "assembly"},
    "session": FLOOR_1 | {"engine", "run", "observers", "assembly", "scoring", "feature_pass", "diagnosis"},
    **{verb: FLOOR_1 | {"engine", "zoo", "run", "observers", "assembly", "scoring"} for verb in VERBS},
    "calibrate": {"contract", "checkpoint", "statistics", "damage", "zoo", "assembly", "feature_pass", "scoring"},
    "replay": FLOOR_1 | {"engine", "zoo", "run", "assembly", "changes", "diagnosis"},
    "train": FLOOR_1 | {"changes", "rehearsal", "engine", "zoo", "run", "observers", "assembly", "scoring", "session"},
    # its cells are trainings, its floors are calibrations
    "benchmark": FLOOR_1
    | {"engine", "feature_pass", "loading", "zoo", "run", "assembly", "scoring", "train", "calibrate", "damage"},
    "speedrun": {"contract", "checkpoint", "signals", "statistics", "zoo", "run", "benchmark"},
    "testing": FLOOR_1 | {"engine", "feature_pass", "zoo", "run", "observers", "assembly", "scoring", "train"},
    "describe": {"contract", "zoo"},
    "cli": FLOOR_1 | VERBS | {"changes", "describe", "zoo", "run", "assembly", "engine", "testing", "damage", "scale"},
    "__init__": {"contract"},
    "__main__": {"cli"},
}
#: the only places where what stands above is named, for type checkers alone
TYPES_ONLY = {("contract", "run")}


def _room(path: Path) -> str:
    return path.relative_to(ROOT / "ganzoo").parts[0].removesuffix(".py")


def _imports(path: Path) -> list[tuple[str, bool]]:
    """(module, seen by type checkers only) of every import in a file."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in guarded) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "ganzoo" else [node.module]
            )
            found += [(name or "", id(node) in guarded) for name in names]
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_upwards(path: Path) -> None:
    room = _room(path)
    for module, types_only in _imports(path):
        assert not module.startswith("ganzoo_plugins"), f"{path} imports a plugin"
        if module.startswith("ganzoo."):
            target = module.split(".")[1]
            if target == room or (types_only and (room, target) in TYPES_ONLY):
                continue
            assert target in MAY_IMPORT[room], f"{path}: {room} must not import {target}"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_knows_the_door_and_its_own_library(path: Path) -> None:
    kind = path.relative_to(ROOT / "plugins" / "ganzoo_plugins").parts[0]
    for module, _ in _imports(path):
        assert not module.startswith("ganzoo."), f"{path} reaches past the door: {module}"
        if module.startswith("ganzoo_plugins."):
            _, target, *inner = module.split(".")
            private = bool(inner) and inner[0].startswith("_")
            assert target == "layers" or (target == kind and private), f"{path}: a part knows another part, {module}"


def test_the_engine_names_no_member() -> None:
    points = [point for point in distribution("torch-ganzoo").entry_points if point.group.startswith("ganzoo.")]
    names = {point.name for point in points} - {
        "domain"
    }  # an ordinary word; the class below is looked for all the same
    classes = {point.value.rpartition(":")[2] for point in points}
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
