"""Pictures in terminals that can show them: the protocols of kitty and iTerm2, and sixel.

Which one a terminal has is read from the environment. No terminal is asked by an escape sequence, because one that does
not answer would make the training wait. Pictures are off in tmux and screen, which lose them or put them in the wrong
place, unless GANZOO_PICTURES names a protocol.
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from ganzoo.contract.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

#: the environment variable: auto, the name of a protocol, or off
VARIABLE = "GANZOO_PICTURES"
PROTOCOLS = ("kitty", "iterm2", "sixel")
_OFF = ("off", "none", "no", "0", "false")
#: a picture is at most so many rows high, and at most half of the terminal
_MOST_ROWS = 16
#: pixels of a character where the terminal does not say it: width, height
_CELL = (10, 20)
#: the same for sixel, where a wrong guess must leave room rather than cover the next line
_SIXEL_CELL = (8, 16)
#: colours of a sixel picture
_COLOURS = 64
#: bytes of base64 in one escape sequence of kitty, at most 4096
_CHUNK = 4096
#: TERM, or its beginning -> protocol
_TERMS = {"xterm-kitty": "kitty", "xterm-ghostty": "kitty", "foot": "sixel", "mlterm": "sixel", "yaft": "sixel"}
#: TERM_PROGRAM -> protocol
_PROGRAMS = {
    "iTerm.app": "iterm2",
    "WezTerm": "iterm2",
    "mintty": "iterm2",
    "ghostty": "kitty",
    "contour": "sixel",
}


def picture_protocol(stream: TextIO, environment: Mapping[str, str] = os.environ) -> str | None:
    """The protocol for pictures on this stream: one of `PROTOCOLS`, or None where none should be written.

    Raises UsageError where GANZOO_PICTURES has another value.
    """
    asked = environment.get(VARIABLE, "").strip().lower()
    if asked not in ("", "auto", *_OFF, *PROTOCOLS):
        raise UsageError(f"{VARIABLE}={asked!r} is not one of: auto, {', '.join(PROTOCOLS)}, off.")
    if asked in _OFF or not stream.isatty():
        return None
    return asked if asked in PROTOCOLS else _detected(environment)


def _detected(environment: Mapping[str, str]) -> str | None:
    term = environment.get("TERM", "")
    if _in_multiplexer(environment) or environment.get("ZELLIJ"):
        return None
    for name, protocol in _TERMS.items():
        if term == name or term.startswith(f"{name}-"):
            return protocol
    if "sixel" in term:
        return "sixel"
    program = environment.get("TERM_PROGRAM") or ("iTerm.app" if environment.get("LC_TERMINAL") == "iTerm2" else "")
    return _PROGRAMS.get(program)


def _in_multiplexer(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("TMUX") or environment.get("STY")) or environment.get("TERM", "").startswith(
        ("tmux", "screen")
    )


class TerminalSize(NamedTuple):
    """The size of a terminal in characters, and of a character in pixels (None where it is not known)."""

    columns: int
    rows: int
    cell: tuple[int, int] | None


def terminal_size(stream: TextIO) -> TerminalSize:
    """The size of the terminal behind a stream, as its driver knows it; 80 x 24 where it does not."""
    try:
        import fcntl
        import termios

        found = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("HHHH", found)
    except (ImportError, OSError, ValueError):
        return TerminalSize(80, 24, None)
    cell = (width // columns, height // rows) if rows and columns and width >= columns and height >= rows else None
    return TerminalSize(columns or 80, rows or 24, cell)


def picture_text(path: Path, protocol: str, size: TerminalSize, environment: Mapping[str, str] = os.environ) -> str:
    """What to write at the beginning of a line to show the picture in a file, above the line that follows.

    Raises OSError or ValueError where the file is no picture.
    """
    from PIL import Image

    from ganzoo.storage.pictures import read_png

    cell = size.cell or (_SIXEL_CELL if protocol == "sixel" else _CELL)
    image = read_png(path)
    widest, highest = cell[0] * max(1, size.columns - 1), cell[1] * max(2, min(_MOST_ROWS, size.rows // 2))
    scale = min(1.0, widest / image.width, highest / image.height)
    if scale < 1.0:
        smaller = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(smaller, Image.Resampling.BOX)
    rows = math.ceil(image.height / cell[1])
    encode = {"kitty": _kitty, "iterm2": _iterm2, "sixel": _sixel}[protocol]
    drawn = encode(image, rows)
    if environment.get("TMUX") and protocol != "sixel":  # tmux passes it on to the terminal outside
        doubled = drawn.replace("\x1b", "\x1b\x1b")
        drawn = f"\x1bPtmux;{doubled}\x1b\\"
    # the rows are made first, so that the picture never scrolls; the cursor is put back, because where it stands after
    # a picture differs between terminals
    return "\n" * rows + f"\x1b[{rows}A\x1b7{drawn}\x1b8\x1b[{rows}B\r"


def _png(image: Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def _kitty(image: Image, rows: int) -> str:
    """The graphics protocol of kitty: PNG in base64; q=2 asks for no answer, C=1 leaves the cursor where it is."""
    data = _png(image)
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    parts = []
    for number, chunk in enumerate(chunks):
        keys = f"a=T,f=100,q=2,C=1,r={rows}," if number == 0 else ""
        parts.append(f"\x1b_G{keys}m={int(number < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(parts)


def _iterm2(image: Image, rows: int) -> str:
    """The inline images of iTerm2: a PNG file in base64."""
    return f"\x1b]1337;File=inline=1;height={rows};preserveAspectRatio=1:{_png(image)}\x07"


def _sixel(image: Image, rows: int) -> str:
    """Sixel: bands of six rows, in each band one line of characters a colour; a character is a column of six pixels."""
    import numpy as np

    indexed = image.quantize(_COLOURS)
    palette = np.array(indexed.getpalette(), dtype=int).reshape(-1, 3)
    pixels = np.array(indexed)
    height, width = pixels.shape
    pixels = np.pad(pixels.astype(int), ((0, -height % 6), (0, 0)), constant_values=-1)
    percent = np.rint(palette * 100 / 255).astype(int)
    used = [int(colour) for colour in np.unique(pixels) if colour >= 0]
    text = [f'\x1bP0;1q"1;1;{width};{height}']
    text += [f"#{colour};2;{';'.join(map(str, percent[colour]))}" for colour in used]
    weights = (1 << np.arange(6))[:, None]
    for top in range(0, len(pixels), 6):
        band = pixels[top : top + 6]
        lines = []
        for colour in (int(colour) for colour in np.unique(band) if colour >= 0):
            bits = ((band == colour) * weights).sum(axis=0)
            lines.append(f"#{colour}{_run_lengths(bytes((bits + 63).astype(np.uint8)).decode())}")
        text.append("$".join(lines) + "-")
    return "".join([*text, "\x1b\\"])


def _run_lengths(line: str) -> str:
    """A line of sixels with `!9~` for nine times `~`."""
    return re.sub(r"(.)\1{3,}", lambda found: f"!{len(found[0])}{found[1]}", line.rstrip("?"))


def no_pictures(environment: Any = os.environ) -> None:
    """Write no pictures in this process and those that it starts."""
    environment[VARIABLE] = "off"
