"""The samples of a shard in the WebDataset layout: members of one name up to the first dot belong together."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ganzoo_plugins.datasets._picture_rows import ROW, draw_of
from ganzoo_plugins.datasets._pictures import SUFFIXES, size_and_channels
from ganzoo_plugins.datasets._tar import Member, TarError, members

#: keys of a .json that give the label, where none is named
_LABEL_KEYS = ("label", "class", "cls")
#: bytes of a label file above which it is not read, and characters of a class name
_LONGEST_FILE, _LONGEST_NAME = 1 << 20, 200
#: a picture's size is a number of 32 bits in the index
_LARGEST_PICTURE = (1 << 32) - 1


class Shard(NamedTuple):
    """What is known of a shard."""

    #: (n,) of `ROW`; a label that is a word is its place in `words`
    rows: np.ndarray
    #: "none", "number" or "word"
    labels: str
    words: tuple[str, ...]


def read_shard(path: Path, number: int, image: str, label: str, prefix: str) -> Shard:
    """Find the pictures of the shard `number` and their labels. Raises TarError or OSError.

    image, label: which member is the picture, and what gives the label; empty to find out.
    prefix: before the key in the name that decides whether a picture is a test picture.
    """
    rows: list[tuple[Any, ...]] = []
    words: dict[str, int] = {}
    kind = first = ""
    keys: set[str] = set()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for key, group in _groups(descriptor):
            if key in keys:
                raise TarError(f"has two samples {key!r}, or their members do not stand together")
            keys.add(key)
            member = group[_picture_of(key, group, image)]
            sides = _sides(descriptor, member)
            value = _label_of(descriptor, key, group, label)
            found = "none" if value is None else "number" if isinstance(value, int) else "word"
            if kind and found != kind:
                raise TarError(
                    f"has samples of two schemas: the label of {key!r} is {_in_words(found)}, that of {first!r} "
                    f"{_in_words(kind)}"
                )
            kind, first = kind or found, first or key
            code = words.setdefault(value, len(words)) if isinstance(value, str) else -1 if value is None else value
            rows.append((number, member.size, member.offset, *sides, code, draw_of(f"{prefix}/{key}")))
    finally:
        os.close(descriptor)
    if not rows:
        raise TarError("holds no pictures")
    return Shard(np.array(rows, ROW), kind, tuple(words))


def _groups(descriptor: int) -> Iterator[tuple[str, dict[str, Member]]]:
    """Key and members by extension of each sample."""
    current: str | None = None
    group: dict[str, Member] = {}
    for member in members(descriptor):
        folder, slash, name = member.name.rpartition("/")
        stem, dot, extension = name.partition(".")
        # hidden files, what macOS adds (._0001.png), and files without an extension belong to no sample
        if not stem or not dot or not extension or stem.startswith("__"):
            continue
        key, extension = f"{folder}{slash}{stem}", extension.lower()
        if key != current and current is not None:
            yield current, group
            group = {}
        if extension in group:
            raise TarError(f"has two files {member.name!r}")
        current, group[extension] = key, member
    if current is not None:
        yield current, group


def _picture_of(key: str, group: Mapping[str, Member], image: str) -> str:
    """The extension of the sample's picture."""
    pictures = [image] if image in group else [] if image else [one for one in group if f".{one}" in SUFFIXES]
    has = ", ".join(f".{one}" for one in list(group)[:5])
    if not pictures:
        wanted = f".{image}" if image else "picture"
        raise TarError(f"has another schema: sample {key!r} has no {wanted}, only {has}")
    if len(pictures) > 1:
        raise TarError(f"has several pictures in sample {key!r} ({has}): name one with image=, such as {pictures[0]}")
    if group[pictures[0]].size > _LARGEST_PICTURE:
        raise TarError(f"has a picture of more than 4 GB in sample {key!r}")
    return pictures[0]


def _sides(descriptor: int, member: Member) -> tuple[int, int, int]:
    """Height, width and channels of a picture."""
    found = size_and_channels(Path(member.name), member.start)
    if isinstance(found, str) and member.size > len(member.start):
        found = size_and_channels(Path(member.name), os.pread(descriptor, member.size, member.offset))
    if isinstance(found, str):
        raise TarError(f"holds {member.name!r}, which cannot be read as a picture ({found})")
    return found


def _label_of(descriptor: int, key: str, group: Mapping[str, Member], label: str) -> int | str | None:
    """The label of a sample: a number, a word, or None if there is none."""
    name = label if label in group else "cls" if "cls" in group and not label else ""
    if name:
        return label_value(_content(descriptor, group[name]).decode("utf-8", "replace"), key)
    if "json" not in group:
        if label:
            raise TarError(f"has another schema: sample {key!r} has no .{label} and no .json with it")
        return None
    try:
        facts = json.loads(_content(descriptor, group["json"]))
    except (ValueError, RecursionError):
        raise TarError(f"holds {group['json'].name!r}, which is no JSON") from None
    if not isinstance(facts, dict):
        return label_value(facts, key)
    if label and label not in facts:
        raise TarError(f"has another schema: the .json of sample {key!r} has no {label!r}")
    found = next((one for one in ([label] if label else _LABEL_KEYS) if one in facts), "")
    return label_value(facts[found], key) if found else None


def label_value(value: Any, key: str) -> int | str:
    """A label as the number or the name of a class. Raises TarError for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        value = value.strip()
        value = int(value) if re.fullmatch(r"[+-]?[0-9]{1,18}", value) else value
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise TarError(f"has a label in sample {key!r} that is neither a number nor a name: {str(value)[:40]!r}")
    if isinstance(value, int) and not 0 <= value < 1 << 31:
        raise TarError(f"has the label {value} in sample {key!r}: labels number the classes, from 0")
    if isinstance(value, str) and (len(value) > _LONGEST_NAME or not value.isprintable()):
        raise TarError(f"has a label in sample {key!r} that is no name of a class: {value[:40]!r}")
    return value


def _content(descriptor: int, member: Member) -> bytes:
    if member.size > _LONGEST_FILE:
        raise TarError(f"holds {member.name!r}, which is too large for a label")
    return member.start if member.size <= len(member.start) else os.pread(descriptor, member.size, member.offset)


def _in_words(kind: str) -> str:
    return {"none": "missing", "number": "a number", "word": "a name"}[kind]
