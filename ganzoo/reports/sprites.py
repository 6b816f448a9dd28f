"""Pictures for a page: images at their native pixels, many frames in one file, as data URIs.

The sample grids of a run are enlarged and have margins. Here they are taken apart again: one pixel of an image is one
pixel of the sprite, and the page enlarges them.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from ganzoo.reports.collect import thinned
from ganzoo.reports.memory import Memory, states_of
from ganzoo.storage import pictures

#: a sprite is at most so wide, in pixels; browsers decode up to 16,384, WebP holds 16,383
_WIDEST = 4096
#: the films of the newest report with the bytes that they had to fit in, of so many characters at most
_films = Memory[tuple[int, dict[str, Any]]](most=64 << 20)


def film(folder: Path, shape: Sequence[int], grid: tuple[int, int], frames: int, bytes_left: int) -> dict[str, Any]:
    """The sample grids of a run, at most `frames` of them, as one sprite. Empty if there are none that can be read.

    `shape` is (C, H, W) of an image, `grid` (rows, columns). Keys: `image` (a data URI), `width` and `height` of a
    frame, `columns` (frames in a row of the sprite), `rows` and `cols` of tiles, `tile` (width, height), and `images`,
    the images seen at each frame. The sprite is lossless if it fits in `bytes_left`, else compressed with loss.
    """
    files = [file for file in folder.glob("*.png") if file.stem.isdecimal()]
    chosen = thinned(sorted(files, key=lambda file: int(file.stem)), frames)
    state = states_of(chosen), tuple(shape), grid
    made = _films.get(_key(folder), state)
    # a film that fits in fewer bytes than it was made for would be made like this again
    if made is None or not (bytes_left == made[0] or len(made[1].get("image", "")) <= bytes_left < made[0]):
        made = bytes_left, _film(chosen, shape, grid, bytes_left)
        _films.put(_key(folder), state, made, size=1000 + len(made[1].get("image", "")))
    return dict(made[1])


def forget_films(but: Iterable[Path]) -> None:
    """Forget the films that are remembered, but not those of the folders `but`."""
    _films.keep(set(map(_key, but)))


def _key(folder: Path) -> str:
    return os.path.realpath(folder)


def _film(files: Sequence[Path], shape: Sequence[int], grid: tuple[int, int], bytes_left: int) -> dict[str, Any]:
    found = []
    for file in files:
        tiles = _tiles(file, shape, grid)
        if tiles is not None:
            found.append((int(file.stem), tiles))
    if not found:
        return {}
    _, height, width = shape
    facts = sprite([tiles for _, tiles in found], grid[1], bytes_left)
    return facts | {"images": [images for images, _ in found], "tile": [width, height]}


def _tiles(file: Path, shape: Sequence[int], grid: tuple[int, int]) -> numpy.ndarray | None:
    """The images of a sample grid, uint8 (N, H, W, 3); None if the file is not such a grid."""
    _, height, width = shape
    try:
        return pictures.tiles_of(pictures.read_png(file), height, width, *grid)
    except (OSError, ValueError):
        return None


def sprite(frames: Sequence[numpy.ndarray], columns: int, bytes_left: int = 1 << 20) -> dict[str, Any]:
    """Frames of images, each uint8 (N, H, W, 3) in rows of `columns`, as one picture; keys as in `film`.

    Images of a frame touch; the page draws the gaps.
    """
    count, height, width, _ = frames[0].shape
    rows = -(-count // columns)
    tall, wide = rows * height, columns * width
    across = max(1, min(len(frames), _WIDEST // wide, math.ceil(math.sqrt(len(frames) * tall / wide))))
    canvas = numpy.zeros((-(-len(frames) // across) * tall, across * wide, 3), numpy.uint8)
    for index, tiles in enumerate(frames):
        if len(tiles) < rows * columns:
            tiles = numpy.concatenate([tiles, numpy.zeros((rows * columns - len(tiles), height, width, 3), "uint8")])  # noqa: PLW2901
        frame = tiles.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4).reshape(tall, wide, 3)
        row, column = divmod(index, across)
        canvas[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide] = frame
    facts = {"width": wide, "height": tall, "columns": across, "rows": rows, "cols": columns, "count": count}
    return {"image": data_uri(canvas, bytes_left), **facts, "tile": [width, height]}


def data_uri(pixels: numpy.ndarray, bytes_left: int = 1 << 20) -> str:
    """A picture, uint8 (H, W, 3), as a data URI: WebP without loss if it fits in `bytes_left`, else with loss."""
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    picture = Image.fromarray(pixels[..., 0] if grey else pixels)
    if max(picture.size) > 16_383:
        return "data:image/png;base64," + _encoded(picture, "PNG", optimize=True)
    text = _encoded(picture, "WEBP", lossless=True, quality=50, method=3)
    for quality in (85, 70, 50):
        if len(text) <= bytes_left:
            break
        text = _encoded(picture, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + text


def _encoded(picture: Image.Image, kind: str, **options: Any) -> str:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return base64.b64encode(data.getvalue()).decode()
