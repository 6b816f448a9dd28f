"""What a cache of decoded pictures knows of each picture, as one file with a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from pathlib import Path

import numpy as np


@dataclasses.dataclass
class PictureIndex:
    """What the cache holds."""

    #: names the file of images
    id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(4))
    #: (C, H, W) of every picture; empty before the first
    shape: tuple[int, ...] = ()
    #: of each row: sha256, lowest and highest value
    rows: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)
    #: name -> [size, date, date of change], sha256 of the file, and the row or the reason why it cannot be decoded
    pictures: dict[str, tuple[list[int], str, int | str]] = dataclasses.field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape))

    def to_bytes(self) -> bytes:
        content = json.dumps(vars(self)).encode()
        return hashlib.sha256(content).hexdigest().encode() + b"\n" + content

    @staticmethod
    def from_bytes(data: bytes) -> PictureIndex:
        """Raises an error of any kind where a bit is not as it was written."""
        digest, _, content = data.partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise ValueError("it does not match its digest")
        fields = json.loads(content)
        index = PictureIndex(str(fields["id"]), tuple(int(side) for side in fields["shape"]))
        index.rows = [(str(sha), int(low), int(high)) for sha, low, high in fields["rows"]]
        for name, (facts, sha, row) in fields["pictures"].items():
            if isinstance(row, int) and not 0 <= row < len(index.rows):
                raise ValueError(f"there is no row {row}")
            index.pictures[name] = (facts, sha, row)
        return index


def facts_of(path: Path) -> list[int]:
    """Facts of a file that change when its content changes; empty where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return []
    # the change time too: it changes with new content under an old date, and with new permissions
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def digest_of(image: np.ndarray) -> str:
    """The sha256 of a decoded picture."""
    return hashlib.sha256(image.tobytes()).hexdigest()
