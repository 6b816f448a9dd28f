"""Animations of pictures. The suffix of the file is the format: GIF, WebP, AVIF (Pillow), MP4, WebM (PyAV)."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image, features

from ganzoo.contract.errors import UsageError
from ganzoo.storage.files import write_atomically
from ganzoo.storage.pictures import theme_named

#: suffixes that Pillow writes, and those that need the extra `video`, with the codec and its options
_PILLOW = (".gif", ".webp", ".avif")
_VIDEO = {
    ".mp4": ("libx264", {"crf": "18", "preset": "medium", "movflags": "+faststart"}),
    ".webm": ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4"}),
}
SUFFIXES = (*_PILLOW, *_VIDEO)
#: a film with more pixels in a frame is refused by most players
_MOST_VIDEO_PIXELS = 4096 * 2304


def require_format(suffix: str) -> None:
    """Raises UsageError where animations with this suffix cannot be written here, with what to do instead."""
    if suffix not in SUFFIXES:
        raise UsageError(f"An animation must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, not in {suffix!r}.")
    if suffix in _VIDEO and importlib.util.find_spec("av") is None:
        raise UsageError(
            f"A {suffix} film needs the extra `video`: pip install 'torch-ganzoo[video]', or name a .gif or .webp file."
        )
    if suffix in (".webp", ".avif") and not features.check(suffix[1:]):
        raise UsageError(f"This Pillow cannot write {suffix}: install Pillow from PyPI, or name a .gif file.")


def save(
    frames: Sequence[Image.Image], path: Path, seconds: float = 0.2, hold: float = 1.5, theme: str = "dark"
) -> None:
    """Write an animation that repeats: `seconds` for each frame, `hold` seconds for the last one.

    Smaller frames are filled up on the right and below. Raises UsageError for a format that cannot be written here.
    """
    require_format(path.suffix)
    width, height = max(frame.width for frame in frames), max(frame.height for frame in frames)
    even = path.suffix in _VIDEO  # these codecs halve both sides for the colours
    size = (width + width % 2, height + height % 2) if even else (width, height)
    canvases = [_filled(frame, size, theme) for frame in frames]
    data = _film(canvases, path, seconds, hold) if even else _pillow(canvases, path.suffix, seconds, hold)
    write_atomically(path, data)


def _filled(frame: Image.Image, size: tuple[int, int], theme: str) -> Image.Image:
    canvas = Image.new("RGB", size, color=theme_named(theme).background)
    canvas.paste(frame, (0, 0))
    return canvas


def _pillow(frames: list[Image.Image], suffix: str, seconds: float, hold: float) -> bytes:
    settings: dict[str, dict[str, Any]] = {
        ".gif": {"optimize": False},
        ".webp": {"lossless": True},
        ".avif": {"quality": 80},
    }
    if suffix == ".gif":
        frames = [frame.quantize(64, dither=Image.Dither.NONE) for frame in frames]
    times = [int(seconds * 1000)] * (len(frames) - 1) + [int(hold * 1000)]
    data = io.BytesIO()
    frames[0].save(
        data, suffix[1:].upper(), save_all=True, append_images=frames[1:], duration=times, loop=0, **settings[suffix]
    )
    return data.getvalue()


def _film(frames: list[Image.Image], path: Path, seconds: float, hold: float) -> bytes:
    """A film with a constant rate; the last frame is repeated until it has stood for `hold` seconds."""
    import av

    width, height = frames[0].size
    if width * height > _MOST_VIDEO_PIXELS:
        raise UsageError(
            f"{path}: frames of {width}x{height} pixels are too large for a film: draw fewer, or name a .webp file."
        )
    frame: Any = av.VideoFrame
    codec, options = _VIDEO[path.suffix]
    rate = Fraction(1 / seconds).limit_denominator(1000)
    data = io.BytesIO()
    with av.open(data, "w", format=path.suffix[1:]) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1  # so that the same frames give the same bytes
        for picture in [*frames, *[frames[-1]] * (round(hold / seconds) - 1)]:
            container.mux(stream.encode(frame.from_image(picture)))
        container.mux(stream.encode())
    return data.getvalue()
