"""Picture files of any kind to uint8 images."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._metadata import without_metadata
from ganzoo_plugins.datasets._plain_png import plain_png

#: suffix -> format as Pillow calls it. A file may be of another of these formats than its suffix says
_FORMAT_OF = {
    ".bmp": "BMP",
    ".gif": "GIF",
    **dict.fromkeys((".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"), "JPEG"),
    **dict.fromkeys((".apng", ".png"), "PNG"),
    **dict.fromkeys((".pbm", ".pgm", ".pnm", ".ppm"), "PPM"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".webp": "WEBP",
    **dict.fromkeys((".j2c", ".j2k", ".jp2", ".jpf", ".jpx"), "JPEG2000"),
    ".tga": "TGA",
    ".avif": "AVIF",
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIF"),
}
SUFFIXES = tuple(sorted(_FORMAT_OF))
#: formats that not every installation reads -> what is missing then
NEEDS = {"AVIF": "Pillow 11.3 or newer", "HEIF": "pip install 'torch-ganzoo[heic]'"}
#: TGA files have no mark to know them by, so only the suffix tells
_ONLY_BY_SUFFIX = {"TGA"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: turns that swap height and width
_LYING = (5, 6, 7, 8)
#: modes of Pillow without colour
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
#: colour type of a PNG -> channels; 3 is a palette
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
#: TIFF tags: bits of a sample, how 0 is shown (0: white), kind of numbers (2: signed)
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339


def needed_for(suffix: str) -> str:
    """What has to be installed to read files with this suffix; empty where nothing is missing."""
    name = _FORMAT_OF[suffix]
    return "" if name in _available() else NEEDS.get(name, "another Pillow")


def decode(path: Path, channels: int, size: int, crop: bool, content: bytes | None = None) -> Tensor | str:
    """The picture as uint8 (channels, H, W), or the reason why it cannot be read.

    size: height and width, reached by cutting out the central square first (`crop`) or by distortion; 0: as it is.
    content: of the file, where it is known; `path` is then only its name.
    """
    try:
        try:
            plain = None if content is None else plain_png(content, channels)
            if plain is not None:
                return _fitted(plain, size, crop)
            pixels = _pixels(path, path if content is None else io.BytesIO(content), channels)
        except Exception:
            # damaged metadata must not cost a picture whose pixels are whole
            bare = without_metadata(path, content)
            if bare is None:
                raise
            with contextlib.suppress(Exception):
                return _fitted(_pixels(path, io.BytesIO(bare), channels), size, crop)
            raise
    # a broken file may raise anything: decoders differ, and none of them promises which
    except Exception as error:
        words = " ".join(str(error).replace(repr(str(path)), "").split()).rstrip(" :")
        return words or type(error).__name__
    return _fitted(pixels, size, crop)


def size_and_channels(path: Path, content: bytes) -> tuple[int, int, int] | str:
    """Height, width and number of channels (1 grey, 3 colour) of a picture that is upright; or why it cannot be read.

    The beginning of a file is enough where its format says these things there. Call it within `careful()`.
    """
    if content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR" and b"eXIf" not in content:
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        if 0 < height * width < (Image.MAX_IMAGE_PIXELS or 1 << 62) and content[25] in _PNG_CHANNELS:
            return height, width, _PNG_CHANNELS[content[25]]
    try:
        with Image.open(io.BytesIO(content), formats=_formats_of(path)) as picture:
            width, height = picture.size[:: -1 if _orientation(picture) in _LYING else 1]
            return height, width, 1 if picture.mode in _GREY else 3
    except Exception as error:
        return " ".join(str(error).split()).rstrip(" :") or type(error).__name__


def _fitted(pixels: np.ndarray, size: int, crop: bool) -> Tensor:
    """Pixels (H, W) or (H, W, C) as an image (C, H, W), of the wanted size."""
    image = torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)
    if not size:
        return image
    if crop:
        height, width = image.shape[1:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[:, top : top + side, left : left + side]
    return ganzoo.resize(image.unsqueeze(0), size).squeeze(0)


@functools.cache
def _available() -> set[str]:
    """The formats that can be read here. Other formats are refused: for some, such as EPS, Pillow starts a program."""
    Image.init()
    if "HEIF" not in Image.OPEN and importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
    return {name for name in _FORMAT_OF.values() if name in Image.OPEN}


def _formats_of(path: Path) -> tuple[str, ...]:
    """The formats that a file of this name may have."""
    return _formats(_FORMAT_OF.get(path.suffix.lower(), ""))


@functools.cache
def _formats(name: str) -> tuple[str, ...]:
    return tuple(sorted(_available() - (_ONLY_BY_SUFFIX - {name})))


def _pixels(path: Path, source: Path | io.BytesIO, channels: int) -> np.ndarray:
    """The pixels (H, W) or (H, W, 3) uint8 of the file `path`, whose content is `source`."""
    formats = _formats_of(path)
    with Image.open(source, formats=formats) as picture:
        if picture.format == "PNG":
            picture.verify()  # only here does Pillow compare the checksums of the pixels; it must be opened again then
    if isinstance(source, io.BytesIO):
        source.seek(0)
    with Image.open(source, formats=formats) as picture:
        picture.load()
        upright = _turn(_eight_bits(picture), _orientation(picture))
        return np.array(_plain(upright, channels))


def _orientation(picture: Image.Image) -> Any:
    """What the EXIF data says of how to turn the picture; 1, as it is, where that cannot be read."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def _turn(picture: Image.Image, orientation: Any) -> Image.Image:
    return picture.transpose(_TURNS[orientation]) if orientation in tuple(_TURNS) else picture


def _eight_bits(picture: Image.Image) -> Image.Image:
    """With 8 bits a sample: grey of 12 or 16 bits is scaled, not clipped. Raises ValueError if the range is unknown."""
    if picture.mode == "F":
        raise ValueError("its values are floats, whose range is not known")
    tags = getattr(picture, "tag_v2", {}) if picture.format == "TIFF" else {}
    signed = _number(tags.get(_SAMPLE_FORMAT, 1)) == 2
    if not (picture.mode.startswith("I") or (picture.mode == "L" and signed)):
        return picture
    # other formats than TIFF are scaled to 16 bits by Pillow
    bits = _number(tags.get(_BITS, 16))
    if bits > 16:
        raise ValueError(f"its values are integers of {bits} bits, whose range is not known: save 8 or 16 bits")
    levels = np.asarray(picture)
    levels = (levels.astype(np.int8) if picture.mode == "L" else levels).astype(np.int64)
    highest = (1 << (bits - 1 if signed else bits)) - 1
    if levels.min() < 0 or levels.max() > highest:
        raise ValueError(f"its values {levels.min()}..{levels.max()} are outside 0..{highest}")
    # "white is zero", which Pillow turns round for 8 bits only
    if _number(tags.get(_PHOTOMETRIC, 1)) == 0:
        levels = highest - levels
    return Image.fromarray(((levels * 255 + highest // 2) // highest).astype(np.uint8))


def _number(value: Any) -> int:
    """A TIFF tag as one number: some are tuples with one number for each channel."""
    return int(value[0] if isinstance(value, tuple) else value)


def _plain(picture: Image.Image, channels: int) -> Image.Image:
    """As 8-bit grey or RGB; what is transparent shows a white ground."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB" if channels == 3 else "L")


@contextlib.contextmanager
def careful() -> Iterator[None]:
    """Decode within this: pictures above Pillow's limit (89 million pixels) are refused, its other warnings ignored.

    Apart from `decode`, because warning filters belong to the process and not to the thread that decodes.
    """
    _available()  # imports the decoders, which threads had better not do at once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
