"""Picture files of any kind to uint8 images."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

import ganzoo

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
#: accepted formats, whatever the suffix; to read some others, such as EPS, Pillow starts a program
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def decode(path: Path, channels: int, size: int, crop: bool) -> Tensor | str:
    """The picture as uint8 (channels, H, W), or the reason why it cannot be read.

    size: height and width, reached by cutting out the central square first (`crop`) or by distortion; 0: as it is.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            picture.load()
            pixels = np.array(_plain(ImageOps.exif_transpose(picture), channels))
    # a broken file may raise anything: decoders differ, and none of them promises which
    except Exception as error:
        return " ".join(str(error).replace(repr(str(path)), "it").split()) or type(error).__name__
    image = torch.from_numpy(pixels).reshape(*pixels.shape[:2], channels).permute(2, 0, 1)
    if not size:
        return image
    if crop:
        height, width = image.shape[1:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[:, top : top + side, left : left + side]
    return ganzoo.resize(image.unsqueeze(0), size).squeeze(0)


def _plain(picture: Image.Image, channels: int) -> Image.Image:
    """As 8-bit grey or RGB: 16-bit grey is scaled, not clipped, and what is transparent shows a white ground."""
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError(f"its values {levels.min()}..{levels.max()} are outside 0..65535")
        picture = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("its values are floats, whose range is not known")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB" if channels == 3 else "L")


@contextlib.contextmanager
def careful() -> Iterator[None]:
    """Decode within this: pictures above Pillow's limit (89 million pixels) are refused, its other warnings ignored.

    Apart from `decode`, because warning filters belong to the process and not to the thread that decodes.
    """
    Image.init()  # imports the decoders, which threads had better not do at once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
