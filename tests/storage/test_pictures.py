"""Labels of grids: letters beyond ASCII are drawn as letters, never as boxes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ganzoo.storage import pictures

IMAGES = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize("name", ["Größe", "žluť", "κάππα", "кошка", "T-shirt/top", "naïve “x”", "x² ≥ ½", "Ł"])
def test_names_that_the_font_has_are_drawn_as_they_are(name: str) -> None:
    assert pictures.labels_of([name]) == [name]


@pytest.mark.parametrize(
    ("name", "label"), [("猫", "\\u732b"), ("한글 7", "\\ud55c\\uae00 7"), ("a😀", "a\\U0001f600")]
)
def test_a_name_with_letters_that_the_font_lacks_is_told_apart(name: str, label: str) -> None:
    if pictures.drawable(name):
        pytest.skip("this font has the letters")
    assert pictures.labels_of([name]) == [label]


def test_two_names_are_two_pictures() -> None:
    drawn = [pictures.grid(IMAGES, 1, row_labels=[name, ""]).tobytes() for name in ("ж", "ш", "猫", "犬")]
    assert len(set(drawn)) == 4


def test_nothing_of_matplotlib_is_imported() -> None:
    code = "import sys, torch; from ganzoo.storage import pictures; "
    code += "pictures.grid(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 1, 'ä'); assert 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
