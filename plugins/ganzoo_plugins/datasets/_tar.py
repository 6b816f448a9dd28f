"""The members of a tar file, with the places of their bytes. Nothing is unpacked.

Only plain files in uncompressed archives are read: ustar, with the long names of GNU tar and of pax (POSIX.1-2001).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 512
#: bytes read at once: a header, and mostly all that must be known of the member after it
_WINDOW = 4096
#: bytes of a long name or of a pax header above which it is not read
_LONGEST = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}
_REFUSED = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}


class TarError(ValueError):
    """What is wrong with an archive, as the end of a sentence that begins with its name."""


class Member(NamedTuple):
    """A plain file of an archive."""

    #: path inside the archive, with slashes
    name: str
    #: place of the first byte of its content
    offset: int
    #: bytes of its content
    size: int
    #: the first bytes of its content, at most 3,584
    start: bytes


def members(file: int) -> Iterator[Member]:
    """The plain files of the archive with this descriptor, in order. Raises TarError where it is not whole and plain.

    An archive that ends without an empty block, which every tar program writes at the end, was cut off.
    """
    total, place = os.fstat(file).st_size, 0
    long_name, long_size = "", -1
    while True:
        window = os.pread(file, _WINDOW, place)
        header = window[:BLOCK]
        if not any(header) and len(header) == BLOCK:
            return
        if len(header) < BLOCK:
            raise TarError("is cut off: it has no end mark")
        _check(header, place)
        kind, size = header[156:157], _size(header[124:136])
        if kind not in b"xgLK" and long_size >= 0:
            size = long_size
        offset = place + BLOCK
        place = offset + -(-size // BLOCK) * BLOCK
        if place > total:
            raise TarError(f"is cut off: {_shown(long_name or _name(header))} is not complete")
        if kind in b"xgLK":
            content = os.pread(file, size, offset) if size <= _LONGEST else b""
            if kind == b"L":
                long_name = _text(content.rstrip(b"\0"))
            elif kind == b"x":
                name, long_size = _pax(content)
                long_name = name or long_name
            elif kind == b"g" and any(_pax(content)[0]):
                raise TarError("gives all its files one name")
            continue
        name = long_name or _name(header)
        long_name, long_size = "", -1
        if kind in _REFUSED:
            raise TarError(f"holds {_REFUSED[kind]}, {_shown(name)}: only plain files are read")
        if kind == b"5":
            continue
        if kind not in b"07\0":
            raise TarError(f"holds {_shown(name)} of an unknown kind, {kind!r}")
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise TarError(f"holds {_shown(name)}, a path that leads out of the archive")
        yield Member(name.removeprefix("./"), offset, size, window[BLOCK : BLOCK + size])


def name_before(file: int, offset: int) -> str:
    """The name in the header of the member whose content begins at `offset`; of a long name it is the beginning."""
    return _name(os.pread(file, BLOCK, offset - BLOCK).ljust(BLOCK, b"\0"))


def _check(header: bytes, place: int) -> None:
    """Raise TarError unless the header has the checksum it names."""
    field = header[148:156]
    try:
        expected = int(field.replace(b"\0", b" ").strip() or b"x", 8)
    except ValueError:
        expected = -1
    # the checksum counts its own field as eight spaces
    if sum(header) - sum(field) + 8 * 32 == expected:
        return
    if place:
        raise TarError(f"is damaged: there is no header at byte {place}")
    compression = next((name for mark, name in _COMPRESSED.items() if header.startswith(mark)), "")
    if compression:
        raise TarError(f"is compressed with {compression}: unpack it, pictures are found by their place in it")
    raise TarError("is no tar file")


def _size(field: bytes) -> int:
    """A number of a header: octal digits, or binary where its first bit is set."""
    if field[0] & 0x80:
        size = int.from_bytes(field[1:], "big")
    else:
        try:
            size = int(field.replace(b"\0", b" ").strip() or b"0", 8)
        except ValueError:
            size = -1
    if field[0] == 0xFF or size < 0:
        raise TarError("is damaged: a size in it is no number")
    return size


def _name(header: bytes) -> str:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    # GNU's own format keeps other things where ustar has the prefix
    return _text(prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name)


def _pax(content: bytes) -> tuple[str, int]:
    """The path and the size (-1: none) of a pax header: records "LENGTH key=value" and a line end."""
    name, size = "", -1
    while content.strip(b"\0"):
        length, _, rest = content.partition(b" ")
        try:
            count = int(length)
            if not len(length) < count <= len(content):
                raise ValueError
            key, equals, value = rest[: count - len(length) - 2].partition(b"=")
            if key == b"path":
                name = _text(value)
            elif key == b"size":
                size = int(value)
        except ValueError:
            raise TarError("is damaged: an extended header in it cannot be read") from None
        if not equals or size < -1:
            raise TarError("is damaged: an extended header in it cannot be read")
        if key.startswith(b"GNU.sparse"):
            raise TarError("holds a sparse file: only plain files are read")
        content = content[count:]
    return name, size


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _shown(name: str) -> str:
    return repr(name.encode("utf-8", "backslashreplace").decode()[:80])
