"""The page of faults names tests that exist, and says why where there is none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
ROWS = re.findall(r"^\| ([A-Z]\d+) \|(.*)\| ([^|]*) \|$", PAGE, re.MULTILINE)


def test_every_fault_has_a_test_or_a_reason() -> None:
    assert len(ROWS) > 40
    for fault, _, covered in ROWS:
        assert "::" in covered or re.match(r"none(?: yet)?: .{20}", covered), (fault, covered)
    catalogue = {"K": 8, "C": 6, "F": 9, "D": 4, "P": 1, "T": 3, "B": 3, "R": 2}
    assert {row[0] for row in ROWS} == {f"{kind}{n}" for kind, last in catalogue.items() for n in range(1, last + 1)}


def test_every_test_that_is_named_exists() -> None:
    files = {path.name: path for path in TESTS.rglob("test_*.py")}
    for file, name in re.findall(r"`(\w+\.py)::(\w+)`", PAGE):
        tree = ast.parse(files[file].read_text())
        functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        assert name in functions, f"{file}::{name}"
