"""What is known of each picture of a large dataset, as a file that is mapped into memory.

    sha256 of the rest in hexadecimal, and a line end
    a line of JSON: what is known of the whole
    rows of `ROW`, one a picture

A mapped file takes no memory of its own: the system reads the parts that are used, and may forget them again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

#: one picture: number of its file, place and length of its content there; height, width and channels of the upright
#: picture; its label, -1 for none; 64 bits drawn from its name, which decide whether it is a test picture
ROW = np.dtype(
    [
        ("file", "<i4"),
        ("size", "<u4"),
        ("offset", "<i8"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("channels", "<i8"),
        ("label", "<i8"),
        ("draw", "<u8"),
    ]
)
_CHUNK = 1 << 20


def draw_of(name: str) -> int:
    """64 bits that depend on the name alone."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big")


def is_test(draws: np.ndarray, test_share: float) -> np.ndarray:
    """Which pictures with these draws are test pictures, (n,) bool."""
    return draws < np.float64(test_share * 2.0**64)


def save_rows(path: Path, facts: dict[str, Any], rows: Iterable[np.ndarray]) -> None:
    """Write the file, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        sha = hashlib.sha256()
        with partial.open("xb") as file:
            file.write(bytes(65))
            for part in (json.dumps(facts).encode() + b"\n", *(part.tobytes() for part in rows)):
                file.write(part)
                sha.update(part)
            file.seek(0)
            file.write(sha.hexdigest().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_rows(path: Path) -> tuple[dict[str, Any], np.ndarray] | None:
    """The facts and the mapped rows of a file; None if there is none, or a bit is not as it was written."""
    try:
        with path.open("rb") as file:
            digest, sha = file.readline(65).strip(), hashlib.sha256()
            while chunk := file.read(_CHUNK):
                sha.update(chunk)
            if sha.hexdigest().encode() != digest:
                return None
            file.seek(65)
            facts = json.loads(file.readline())
            place = file.tell()
        count = (path.stat().st_size - place) // ROW.itemsize
        return facts, np.memmap(path, ROW, "r", place, (count,)) if count else np.empty(0, ROW)
    # what a damaged file leads to may be any error
    except Exception:
        return None
