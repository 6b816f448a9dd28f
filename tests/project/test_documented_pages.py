"""Every command and every example of the README and of docs/ runs: tests/documented.py says how."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from documented import PAGES, ROOT, SHOWN, Followed, check_words, commands_in_text, fences, follow
from PIL import Image

pytest.importorskip("sybil", reason="the examples of the documents are found by sybil: pip install 'torch-ganzoo[dev]'")

#: the pages that have a test of their own, here or in tests/api/test_python_page.py
OWN = ("plugins.md", "python.md")
IDS = {page: page.relative_to(ROOT).as_posix() for page in PAGES}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, except for a reader's own pictures in photos/ and a mirror with the archive of the guide."""
    (tmp_path / "photos").mkdir()
    for number in range(40):
        Image.new("RGB", (40, 36), (number * 6, 255 - number * 6, 90)).save(tmp_path / "photos" / f"{number}.jpg")
    (tmp_path / "mirror" / "textures").mkdir(parents=True)
    pixels = hashlib.shake_256(b"squares").digest(100 * 8 * 8)
    np.save(tmp_path / "mirror" / "textures" / "textures.npy", np.frombuffer(pixels, np.uint8).reshape(100, 1, 8, 8))
    monkeypatch.setenv("GANZOO_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("GANZOO_OFFLINE", raising=False)
    return tmp_path


def _follow(page: Path, folder: Path) -> Followed:
    followed = follow(page, folder)
    for reason in followed.skipped:
        sys.stderr.write(f"did not run: {reason}\n")
    return followed


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OWN], ids=lambda page: IDS[page])
def test_every_example_of_a_page_runs(page: Path, folder: Path) -> None:
    _follow(page, folder)


def test_every_example_of_the_guide_for_plugins_runs(folder: Path) -> None:
    _follow(ROOT / "docs" / "plugins.md", folder)
    runs = sorted((folder / "runs").iterdir())
    parts = [json.dumps(json.loads((run / "recipe.json").read_text())) for run in runs]
    for name in ("Disc", "Margin", "Discs", "Textures", "Flip", "Warm", "Diary"):
        (run,) = [run for run, recipe in zip(runs, parts, strict=True) if re.search(rf"my_parts\.py:{name}\b", recipe)]
        assert (run / "stats.jsonl").read_text(), name
        if name == "Diary":
            assert (run / "diary.txt").read_text()
    assert (folder / "data" / "textures" / "textures.npy").exists()
    assert "class-shift" in (folder / "runs" / "a" / "scores.jsonl").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: IDS[page])
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block without a language would neither run nor be known as text."""
    for language, text in fences(page):
        assert language in {"bash", "python", "json", "toml", *SHOWN}, f"{language!r}: {text[:200]}"
        if language in SHOWN:
            assert not text.startswith(("ganzoo ", "$ ganzoo")), f"a command in a block that does not run: {text[:200]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: IDS[page])
def test_every_command_in_a_sentence_exists(page: Path) -> None:
    for words in commands_in_text(page):
        check_words(words)
