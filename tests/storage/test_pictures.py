"""Labels of grids: letters beyond ASCII are drawn as letters, never as boxes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

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


def test_a_grid_is_taken_apart_into_its_images() -> None:
    images = torch.randint(0, 256, (6, 3, 28, 28), dtype=torch.uint8)
    picture = pictures.grid(images, 3, "a title", ["one", "two"])
    tiles = pictures.tiles_of(picture, 28, 28, 2, 3)
    assert tiles is not None
    assert torch.equal(torch.from_numpy(tiles).permute(0, 3, 1, 2), images)
    # version 0.1 had a margin of two pixels
    old = picture.crop((0, 0, picture.width - pictures.MARGIN + 2, picture.height - pictures.MARGIN + 2))
    tiles = pictures.tiles_of(old, 28, 28, 2, 3)
    assert tiles is not None
    assert torch.equal(torch.from_numpy(tiles).permute(0, 3, 1, 2), images)
    assert pictures.tiles_of(picture, 28, 28, 4, 3) is None


def test_damaged_pixels_of_a_png_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 40), (10, 20, 30)).save(path, compress_level=0)
    assert pictures.read_png(path).getpixel((39, 20)) == (10, 20, 30)
    whole = bytearray(path.read_bytes())
    whole[3000] ^= 64  # not compressed: one bit of one pixel
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"a\.png is no whole PNG file"):
        pictures.read_png(path)
