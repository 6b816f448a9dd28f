"""Pictures for people: a labelled grid of images, in a light or a dark theme."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ganzoo.contract.errors import UsageError
from ganzoo.storage.files import write_atomically

#: a tile is enlarged by a whole factor until it is at least this many pixels wide
_TILE = 72
#: pixels between two tiles, between two groups of columns, around the grid, and between a label and its row
_GAP, _GROUP_GAP, MARGIN, _LABEL_GAP = 2, 16, 8, 8
#: a picture with more pixels is refused: few programs open it, and a tile cannot be seen in it
MOST_PIXELS = 80_000_000
#: a label with more letters is shortened in its middle
_LONGEST_LABEL = 32


@dataclass(frozen=True)
class Theme:
    """The colours of a picture, RGB from 0 to 255: background, text, and text that matters less."""

    background: tuple[int, int, int]
    ink: tuple[int, int, int]
    muted: tuple[int, int, int]


THEMES = {
    "dark": Theme((24, 24, 28), (225, 225, 230), (160, 160, 168)),
    "light": Theme((255, 255, 255), (28, 28, 32), (100, 100, 108)),
}


def theme_named(name: str) -> Theme:
    """One of `THEMES`. Raises UsageError, with all of them, for another name."""
    if name not in THEMES:
        raise UsageError(f"There is no theme {name!r}: it is {' or '.join(THEMES)}.")
    return THEMES[name]


@functools.cache
def _font(size: int = 14) -> Any:
    """DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic, Arabic and more; else Pillow's font."""
    found = importlib.util.find_spec("matplotlib")  # only its folder: nothing of it is imported
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        with contextlib.suppress(OSError):
            return ImageFont.truetype(io.BytesIO(path.read_bytes()), size=size)
    return ImageFont.load_default(size=size + 1)


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


def _shortened(label: str) -> str:
    """A label of at most `_LONGEST_LABEL` letters: of a longer one the middle is left out."""
    if len(label) <= _LONGEST_LABEL:
        return label
    return f"{label[: _LONGEST_LABEL - 12]} … {label[-9:]}"


def scale_of(width: int, scale: int | None = None) -> int:
    """The whole factor by which images of this width are enlarged: `scale`, or until they are 72 pixels wide."""
    return scale or max(1, -(-_TILE // width))


def grid(
    images: Tensor,
    columns: int,
    title: str = "",
    row_labels: Sequence[str] = (),
    *,
    groups: Sequence[tuple[str, int]] = (),
    caption: str = "",
    theme: str = "dark",
    scale: int | None = None,
) -> Image.Image:
    """uint8 images (N, C, H, W) as one RGB picture, in rows of `columns`, each at the same fixed contrast.

    C is 1 or 3. `row_labels` are written left of the rows, the title above them and the caption below; letters that
    the font lacks are written as escapes. `groups`, (name, number of columns) from left to right, have more space
    between them, and their names above. Each image is enlarged by the whole factor `scale`; by default until it is at
    least 72 pixels wide. Raises UsageError for a picture of more than 80 million pixels.
    """
    layout = _Layout(images, columns, labels_of([_shortened(name) for name in row_labels]), groups, scale)
    layout.refuse_too_large(len(images))
    title, caption = labels_of([title, caption])
    return layout.draw(images, title, caption, theme_named(theme))


def tiles_of(picture: Image.Image, height: int, width: int, rows: int, columns: int) -> np.ndarray | None:
    """The images of a grid that `grid` drew without groups, caption and scale: uint8 (rows * columns, H, W, 3).

    None if the picture is no such grid. Titles and labels are left out. Grids of version 0.1 had a margin of a gap.
    """
    pixels = np.asarray(picture.convert("RGB"))
    factor = scale_of(width)
    tall, wide = height * factor, width * factor
    behind = pixels[-1, -1]
    framed = bool((pixels[-MARGIN:] == behind).all() and (pixels[:, -MARGIN:] == behind).all())
    margin = MARGIN if framed else _GAP
    top = pixels.shape[0] - margin - rows * (tall + _GAP) + _GAP
    left = pixels.shape[1] - margin - columns * (wide + _GAP) + _GAP
    if top < 0 or left < 0:
        return None
    # the middle pixel of each enlarged one
    down = (top + np.arange(rows)[:, None] * (tall + _GAP) + np.arange(height) * factor + factor // 2).ravel()
    across = (left + np.arange(columns)[:, None] * (wide + _GAP) + np.arange(width) * factor + factor // 2).ravel()
    tiles: np.ndarray = pixels[down[:, None], across].reshape(rows, height, columns, width, 3)
    found: np.ndarray = tiles.transpose(0, 2, 1, 3, 4).reshape(rows * columns, height, width, 3)
    return found


def read_png(path: Path) -> Image.Image:
    """The picture in a PNG file, RGB. Raises OSError if it cannot be read, ValueError if it is damaged."""
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:  # Pillow starts programs to read some others
            picture.verify()  # only here does Pillow compare the checksums of the pixels; it must be opened again then
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            return picture.convert("RGB")
    except Exception as error:  # Pillow's decoders raise various errors
        raise ValueError(f"{path} is no whole PNG file: {error}") from None


class _Layout:
    """The places of tiles and texts in a grid, in pixels."""

    def __init__(
        self, images: Tensor, columns: int, labels: Sequence[str], groups: Sequence[tuple[str, int]], scale: int | None
    ) -> None:
        count, _, height, width = images.shape
        self.columns, self.labels, self.groups = columns, labels, groups
        self.factor = scale_of(width, scale)
        self.height, self.width = height * self.factor, width * self.factor
        self.rows = -(-count // columns)
        size = min(20, max(14, self.height // 5))
        self.label_font, self.title_font, self.caption_font = _font(size), _font(size + 2), _font(max(12, size - 2))
        widest = max((int(self.label_font.getlength(label)) for label in labels), default=0)
        self.left = MARGIN + (widest + _LABEL_GAP if widest else 0)
        right = self.column_left(columns - 1) + self.width if columns else self.left
        self.picture_width = right + MARGIN
        self.grid_height = self.rows * (self.height + _GAP) - _GAP

    def column_left(self, column: int) -> int:
        """The left side of a column of tiles."""
        ends, end = [], 0
        for _, width in self.groups:
            ends.append(end := end + width)
        gaps = sum(column >= end for end in ends)
        return self.left + column * (self.width + _GAP) + gaps * _GROUP_GAP

    def refuse_too_large(self, count: int) -> None:
        """Raises UsageError for a picture of more than `MOST_PIXELS`."""
        if self.picture_width * (self.grid_height + 2 * MARGIN) > MOST_PIXELS:
            size = f"{self.picture_width:,} x {self.grid_height:,} pixels"
            raise UsageError(
                f"A grid of {count:,} images is too large to be looked at ({size}): draw fewer, write single pictures "
                "(-o DIR/), or an array (-o FILE.npy or FILE.npz)."
            )

    def draw(self, images: Tensor, title: str, caption: str, theme: Theme) -> Image.Image:
        """The picture of the images and the texts."""
        inner = self.picture_width - 2 * MARGIN
        titles, captions = _lines(title, self.title_font, inner), _lines(caption, self.caption_font, inner)
        names = [name for name, _ in self.groups]
        headers = [_fitted(name, self.label_font, self._group_width(place)) for place, name in enumerate(names)]
        title_line, label_line, caption_line = map(_line_height, (self.title_font, self.label_font, self.caption_font))
        top = MARGIN + len(titles) * title_line + (label_line if any(headers) else 0)
        bottom = top + self.grid_height
        height = bottom + MARGIN + (len(captions) * caption_line + 4 if captions else 0)
        canvas = Image.new("RGB", (self.picture_width, height), color=theme.background)
        pen = ImageDraw.Draw(canvas)
        for place, line in enumerate(titles):
            pen.text((MARGIN, MARGIN + place * title_line - 2), line, fill=theme.ink, font=self.title_font)
        for place, header in enumerate(headers):
            left = self.column_left(sum(width for _, width in self.groups[:place]))
            pen.text((left, top - label_line - 1), header, fill=theme.muted, font=self.label_font)
        self._paste(canvas, images, top)
        for row, label in enumerate(self.labels):
            middle = top + row * (self.height + _GAP) + self.height // 2
            left = self.left - _LABEL_GAP - int(self.label_font.getlength(label))
            pen.text((left, middle - label_line // 2), label, fill=theme.ink, font=self.label_font)
        for place, line in enumerate(captions):
            pen.text((self.left, bottom + 6 + place * caption_line), line, fill=theme.muted, font=self.caption_font)
        return canvas

    def _paste(self, canvas: Image.Image, images: Tensor, top: int) -> None:
        for index, image in enumerate(images):
            row, column = divmod(index, self.columns)
            tile = image.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2)
            place = self.column_left(column), top + row * (self.height + _GAP)
            canvas.paste(single(tile), place)

    def _group_width(self, place: int) -> int:
        """The width of a group of columns and of the gap behind it, in pixels."""
        start = sum(width for _, width in self.groups[:place])
        end = start + self.groups[place][1]
        return (self.column_left(end) if end < self.columns else self.picture_width) - self.column_left(start) - 4


def _line_height(font: Any) -> int:
    """Pixels from one line of text to the next."""
    return int(getattr(font, "size", 14) * 1.4)


def _fitted(text: str, font: Any, width: int) -> str:
    """The text, or its beginning, so that it is at most so many pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…" if text else ""


def _lines(text: str, font: Any, width: int) -> list[str]:
    """The text in lines of at most so many pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(_fitted(word, font, width))
    return lines


def single(image: Tensor) -> Image.Image:
    """One uint8 image (C, H, W) as a picture of the same size: grey for C = 1, RGB for C = 3."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def png(picture: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG file, complete or not at all."""
    write_atomically(path, png(picture))
