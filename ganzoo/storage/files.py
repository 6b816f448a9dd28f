"""Files that are complete or absent, also after a crash of the process or of the machine."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`: all of it or nothing, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_synced(temporary, data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename == str(temporary):
            error.filename = str(path)  # the temporary name means nothing to a user
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file, and wait until it is on the disk."""
    with naming(path), open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError in this block the name of the file: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_directory(path: Path) -> None:
    """Make renames in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and its missing parents, so that they survive a power cut."""
    missing = [directory for directory in (path, *path.parents) if not directory.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing:
        sync_directory(directory.parent)


def parse_json(data: bytes) -> Any:
    """The value of a JSON text. Raises ValueError if it is not JSON, or nested too deep to be ours."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def digest_of(facts: Mapping[str, Any]) -> str:
    """sha256 of plain data; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
