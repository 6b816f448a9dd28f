"""Picture files without their metadata, for pictures whose metadata is damaged.

Only what the decoder needs is kept. A file that is damaged elsewhere stays damaged.
"""

from __future__ import annotations

import struct
from pathlib import Path

#: bytes of a file above which it is not read for this
_LARGEST = 1 << 28
#: TIFF tags that describe the pixels: sizes, bits, compression, strips, tiles, orientation, palette, colour space
_PIXEL_TAGS = {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325}
_PIXEL_TAGS |= {332, 338, 339, 347, 529, 530, 531, 532}


def without_metadata(path: Path, content: bytes | None = None) -> bytes | None:
    """The content of a PNG, JPEG, TIFF, AVIF or HEIF file without metadata; None for other files and on any error.

    content: of the file, where it is known.
    """
    try:
        if content is None:
            if path.stat().st_size > _LARGEST:
                return None
            content = path.read_bytes()
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(content)
        if content.startswith(b"\xff\xd8"):
            return _jpeg(content)
        if content[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(content)
        if content[4:8] == b"ftyp":
            return _heif(content)
    except (OSError, IndexError, struct.error, ValueError):
        return None
    return None


def _png(content: bytes) -> bytes:
    """The critical chunks, whose names begin with a capital, and the transparency."""
    kept, place = [content[:8]], 8
    while place + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        name, end = content[place + 4 : place + 8], place + 12 + length
        if name[:1].isupper() or name == b"tRNS":
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _jpeg(content: bytes) -> bytes:
    """All segments but comments and application data; of these JFIF and Adobe's, which says how colours are stored."""
    kept, place = [content[:2]], 2
    while content[place] == 0xFF and content[place + 1] != 0xDA:
        marker = content[place + 1]
        (length,) = struct.unpack_from(">H", content, place + 2)
        if marker in (0xE0, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(content[place : place + 2 + length])
        place += 2 + length
    return b"".join([*kept, content[place:]])


def _tiff(content: bytes) -> bytes:
    """The first directory with the tags of the pixels alone, in its old place: all other offsets stay right."""
    order = "<" if content.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    entries = [content[start + 2 + 12 * index : start + 14 + 12 * index] for index in range(count)]
    kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] in _PIXEL_TAGS]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return content[:start] + directory + content[start + len(directory) :]


def _heif(content: bytes) -> bytes:
    """With the EXIF item under a type that decoders pass over."""
    start = content.index(b"meta") - 4
    (length,) = struct.unpack_from(">I", content, start)
    return content[:start] + content[start : start + length].replace(b"Exif", b"skip") + content[start + length :]
