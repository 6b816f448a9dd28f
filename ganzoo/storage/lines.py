"""The JSON lines of a run, stats.jsonl and scores.jsonl: how a line is written, and how it is checked when it is read.

A line is a JSON object whose last key, "crc", is the CRC-32 of the line without it, so that a wrong value is noticed.
Lines of earlier versions have no "crc"; of these only the form is checked.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ganzoo.contract.errors import GanzooError
from ganzoo.storage.files import parse_json

#: bytes at the end of a file that `read_last_lines` reads
_LAST_BYTES = 1 << 16


def format_line(line: Mapping[str, Any]) -> str:
    """A line of the file, with its checksum and the newline."""
    return json.dumps({**line, "crc": _checksum(line)}) + "\n"


def _checksum(line: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(line).encode()):08x}"


def prepare_append(file: BinaryIO) -> None:
    """Remove a torn last line, left by a crash, so that what is appended starts on a line of its own.

    A last line that only lacks its newline gets it. `file` is open for reading and appending.
    """
    content_end = file.seek(0, os.SEEK_END)
    start, tail = content_end, b""
    while start and b"\n" not in tail:
        start = max(0, start - 4096)
        file.seek(start)
        tail = file.read(content_end - start)
    start, tail = start + tail.rfind(b"\n") + 1, tail[tail.rfind(b"\n") + 1 :]
    if not tail:
        return
    try:
        parse_line(tail, Path(file.name).name)
    except ValueError:
        file.truncate(start)
    else:
        file.seek(content_end)
        file.write(b"\n")


def parse_line(data: bytes, name: str) -> dict[str, Any]:
    """A line of the file `name`, without its checksum. Raises ValueError with the reason where it is damaged."""
    found = parse_json(data)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    checksum = found.pop("crc", None)
    if checksum is not None and checksum != _checksum(found):
        raise ValueError("it does not match its checksum")
    _check_stats(found) if name == "stats.jsonl" else _check_score(found)
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of stats.jsonl or scores.jsonl; an empty list where there is no such file.

    A torn last line, left by a crash, is left out. Raises GanzooError, with the number of the line, for any other
    damage: a result that depends on these lines would be wrong without a word.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    lines: list[dict[str, Any]] = []
    texts = data.split(b"\n")
    for number, text in enumerate(texts, start=1):
        try:
            if text:
                line = parse_line(text, path.name)
                # lines with a checksum may be out of order: of two processes on a disk that has no locks
                if path.name == "stats.jsonl" and b'"crc"' not in text:
                    _check_order(lines, line)
                lines.append(line)
        except (ValueError, TypeError, RecursionError) as error:
            if number == len(texts):  # without a newline: torn
                break
            raise GanzooError(
                f"{path}, line {number} is damaged ({error}): put the file back from a copy, or delete this line to "
                f"go on without it."
            ) from None
    return lines


def read_last_lines(path: Path) -> list[dict[str, Any]]:
    """The lines in the last 64 KiB of stats.jsonl or scores.jsonl, which are enough to know how far a run is.

    An empty list where there is no such file, or only a torn line. Raises GanzooError where one of them is damaged.
    """
    try:
        with open(path, "rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES)
            file.seek(start)
            texts = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise GanzooError(f"{path} cannot be read ({error.strerror}).") from None
    lines = []
    for number, text in enumerate(texts if start == 0 else texts[1:], start=1):
        try:
            if text:
                lines.append(parse_line(text, path.name))
        except (ValueError, TypeError, RecursionError) as error:
            if number == len(texts) - (start > 0):  # without a newline: torn
                break
            raise GanzooError(f"{path} is damaged near its end: {error}.") from None
    return lines


def _check_stats(line: Mapping[str, Any]) -> None:
    _check_kinds(line, {"step": int, "images": int})
    for name, value in line.items():
        if not isinstance(value, int | float):
            raise ValueError(f"{name} is no number")


def _check_score(line: Mapping[str, Any]) -> None:
    _check_kinds(line, {"score": str, "value": int | float, "better": str, "card": dict, "step": int, "images": int})
    if line["better"] not in ("lower", "higher"):
        raise ValueError("better is neither lower nor higher")
    if not isinstance(line["card"].get("digest"), str):
        raise ValueError("its card has no digest")
    for name in ("training", "partial"):
        if not isinstance(line.get(name, False), bool):
            raise ValueError(f"{name} is neither true nor false")


def _check_kinds(line: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    for name, kind in kinds.items():
        if name not in line:
            raise ValueError(f"it has no {name}")
        value = line[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is {value!r:.40}")
        if name in ("step", "images") and value < 0:
            raise ValueError(f"{name} is {value}")


def _check_order(earlier: list[dict[str, Any]], line: Mapping[str, Any]) -> None:
    """Raise ValueError if a line of statistics has a lower step than the line before it."""
    if earlier and line["step"] < earlier[-1]["step"]:
        raise ValueError(f"it is of step {line['step']}, after a line of step {earlier[-1]['step']}")
