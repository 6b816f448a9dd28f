"""Exactly the files that a file imports from its own folder are found."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ganzoo.registry.local_imports import local_imports

FILES = {
    "plain.py": "from inner.deep import leaf\nimport json\n",
    "inner/__init__.py": "",
    "inner/deep/__init__.py": "from . import sibling\nfrom ..upper import x\n",
    "inner/deep/leaf.py": "import plain, mine\n",  # in a circle
    "inner/deep/sibling.py": "",
    "inner/upper.py": "x = 1\n",
    "inner/unused.py": "",
    "late.py": "",
    "json.py": "",
    "broken.py": "def f(:",
    "ganzoo/__init__.py": "",
    "stranger.py": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "parts" / name).write_text(text)
    (tmp_path / "outside.py").write_text("")
    return tmp_path / "parts"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import torch\nfrom os import path\n", []),
        ("import ganzoo\nfrom ganzoo import Loss\n", []),
        ("import inner.upper as u", ["inner/__init__.py", "inner/upper.py"]),
        ("from inner import upper, nothing", ["inner/__init__.py", "inner/upper.py"]),
        ("def f():\n    import late\n", ["late.py"]),
        ("try:\n    import broken\nexcept SyntaxError:\n    pass\n", ["broken.py"]),
        ("from .. import outside", []),
        ("from ....... import outside", []),
        (
            "import plain",
            [
                *("inner/__init__.py", "inner/deep/__init__.py", "inner/deep/leaf.py", "inner/deep/sibling.py"),
                *("inner/upper.py", "json.py", "plain.py"),
            ],
        ),
        ("not Python", []),
        ("\0", []),
    ],
)
def test_what_it_imports_is_seen(folder: Path, text: str, names: list[str]) -> None:
    (folder / "mine.py").write_text(text)
    found = local_imports(folder / "mine.py")
    assert list(found) == names
    for name, sha in found.items():
        assert sha == hashlib.sha256((folder / name).read_bytes()).hexdigest()
