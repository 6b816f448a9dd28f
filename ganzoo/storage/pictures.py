"""Pictures for people: a labelled grid of images, and an animation of grids."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ganzoo.storage.files import write_atomically

#: a tile is enlarged by a whole factor until it is at least this many pixels wide
_TILE = 72
_GAP = 2
_BACKGROUND = (24, 24, 28)
_INK = (225, 225, 230)


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic, Arabic and more; else Pillow's font."""
    found = importlib.util.find_spec("matplotlib")  # only its folder: nothing of it is imported
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        with contextlib.suppress(OSError):
            return ImageFont.truetype(io.BytesIO(path.read_bytes()), size=14)
    return ImageFont.load_default(size=15)


@functools.cache
def drawable(text: str) -> bool:
    """Whether the font has every letter of a text, and none is a control character; others would be drawn as boxes."""
    box = _shape("\U0010ffff")  # a code point that stands for no letter
    return text.isprintable() and all(letter.isascii() or _shape(letter) != box for letter in text)


def _shape(letter: str) -> tuple[tuple[int, int], bytes]:
    mask = _font().getmask(letter)
    return mask.size, bytes(mask)


def labels_of(names: Sequence[str]) -> list[str]:
    r"""The names as they can be drawn: letters that the font lacks are written as escapes, `\u732b`."""
    return [name if drawable(name) else "".join(map(_ascii, name)) for name in names]


def _ascii(letter: str) -> str:
    return letter if letter.isascii() and letter.isprintable() else letter.encode("unicode_escape").decode()


def grid(images: Tensor, columns: int, title: str = "", row_labels: Sequence[str] = ()) -> Image.Image:
    """uint8 images (N, C, H, W) as one RGB picture, in rows of `columns`, each at the same fixed contrast.

    C is 1 or 3. `row_labels` are written left of the rows. Letters that the font lacks are written as escapes.
    """
    row_labels, title = labels_of(row_labels), labels_of([title])[0]
    scale = max(1, -(-_TILE // images.shape[-1]))
    tiles = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    if tiles.shape[1] == 1:
        tiles = tiles.expand(-1, 3, -1, -1)
    _, _, height, width = tiles.shape
    rows = -(-len(tiles) // columns)
    font = _font()
    left = _GAP + (max(int(font.getlength(label)) for label in row_labels) + 12 if row_labels else 0)
    top = 26 if title else _GAP
    canvas = Image.new("RGB", (left + columns * (width + _GAP), top + rows * (height + _GAP)), color=_BACKGROUND)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        place = (left + column * (width + _GAP), top + row * (height + _GAP))
        canvas.paste(Image.fromarray(tile.permute(1, 2, 0).contiguous().numpy()), place)
    pen = ImageDraw.Draw(canvas)
    if title:
        pen.text((_GAP + 4, 4), title, fill=_INK, font=font)
    for row, label in enumerate(row_labels):
        pen.text((_GAP + 4, top + row * (height + _GAP) + height // 2 - 9), label, fill=_INK, font=font)
    return canvas


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG file, complete or not at all."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    write_atomically(path, data.getvalue())


def save_gif(frames: Sequence[Image.Image], path: Path, seconds: float = 0.2, hold: float = 1.5) -> None:
    """Write an animated GIF that repeats: `seconds` for each frame, `hold` seconds for the last one."""
    width, height = max(f.width for f in frames), max(f.height for f in frames)
    canvases = []
    for frame in frames:
        canvas = Image.new("RGB", (width, height), color=_BACKGROUND)
        canvas.paste(frame, (0, 0))
        canvases.append(canvas.quantize(64, dither=Image.Dither.NONE))
    times = [int(seconds * 1000)] * (len(frames) - 1) + [int(hold * 1000)]
    data = io.BytesIO()
    canvases[0].save(data, "GIF", save_all=True, append_images=canvases[1:], duration=times, loop=0, optimize=False)
    write_atomically(path, data.getvalue())
