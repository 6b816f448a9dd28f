"""Checkpoints that a crash cannot damage: written under another name, synced, renamed; checked by digests on loading.

    checkpoints/000600000/state.safetensors  meta.json  MANIFEST.json

The manifest has the size and sha256 of the other files, and its own. A directory without a valid manifest is skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
from torch import Tensor

from ganzoo.contract.errors import GanzooError
from ganzoo.storage.files import make_directory, parse_json, sync_directory, write_synced
from ganzoo.storage.tensors import refuse_infinite, tensors_from_bytes, tensors_to_bytes

FORMAT = 1
#: a manifest of more bytes is not read
_MANIFEST_MOST = 1 << 16
_FILES = ("state.safetensors", "meta.json")
#: what reading damaged files may raise
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError)


class BadCheckpoint(GanzooError):
    """A checkpoint that must not be used; the message names the file and what is wrong with it."""


def save(
    folder: Path,
    name: str,
    tensors: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    keep: int = 2,
    spared: Collection[str] = (),
) -> Path:
    """Save one checkpoint as `folder`/`name`, then remove older ones except the newest `keep` and those `spared`.

    The newest one is that of the highest step in its meta.json, whatever its name. A valid checkpoint of that name
    stays as it is: a resumed run saves the same state again. Raises GanzooError, with nothing changed, if the disk has
    no room for it or a tensor is not finite.
    """
    refuse_infinite(tensors)
    make_directory(folder)
    contents = {"state.safetensors": tensors_to_bytes(tensors), "meta.json": _json({"format": FORMAT, **meta})}
    _refuse_full_disk(folder, sum(map(len, contents.values())))
    final = folder / name
    if final.exists() and _is_good(final):
        return final
    temporary = folder / f".tmp-{name}-{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        for file, data in contents.items():
            write_synced(temporary / file, data)
        write_synced(temporary / "MANIFEST.json", _manifest(name, contents))
        sync_directory(temporary)
        if final.exists():  # damaged: kept under another name, so that it can be examined
            os.rename(final, folder / f".bad-{name}-{uuid.uuid4().hex}")
        os.rename(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(folder)
    prune(folder, name, keep, spared)
    return final


def _refuse_full_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 1.2 * needed:
        raise GanzooError(
            f"No room for a checkpoint in {folder}: it needs {needed / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are "
            f"free; make room and resume the run."
        )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _manifest(name: str, contents: Mapping[str, bytes]) -> bytes:
    files = {file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for file, data in contents.items()}
    return _sealed({"format": FORMAT, "name": name, "files": files})


def _sealed(body: Mapping[str, Any]) -> bytes:
    """A manifest with its own digest."""
    return _json({**body, "self": hashlib.sha256(_json(body)).hexdigest()})


def prune(folder: Path, newest: str, keep: int = 2, spared: Collection[str] = ()) -> None:
    """Remove what `save` would have removed after the checkpoint `newest`, and unfinished files left by crashes."""
    names = _names(folder)
    # newer ones were skipped as damaged: they must not count as kept
    old_ones = names[: names.index(newest) + 1][:-keep] if newest in names else []
    for old in [name for name in old_ones if name not in spared]:
        doomed = folder / f".del-{old}-{uuid.uuid4().hex}"
        os.rename(folder / old, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    for leftover in folder.glob(".tmp-*"):
        # renamed at once: another writer may be about to rename it
        with contextlib.suppress(OSError):
            os.rename(leftover, folder / f".del-{uuid.uuid4().hex}")
    for leftover in folder.glob(".del-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint below `folder`, damaged or not; None if there is none."""
    names = _names(folder)
    return folder / names[-1] if names else None


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint below `folder` that can be read; None if there is none."""
    steps = (_step(folder / name) for name in reversed(_names(folder)))
    return next((step for step in steps if step is not None), None)


def _names(folder: Path) -> list[str]:
    """The names of the checkpoints below `folder`, oldest first, by the steps in their meta.json.

    Names are numbers of images, which version 0.1.0 computed anew from a changed set of images: a later step could
    have a lower name. A checkpoint whose step cannot be read has the place that its name says.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    placed, last_step = [], -1
    for name in sorted((name for name in names if name.isascii() and name.isdecimal()), key=int):
        step = _step(folder / name)
        last_step = last_step if step is None else step
        placed.append((last_step, int(name), name))
    return [name for _, _, name in sorted(placed)]


def _step(path: Path) -> int | None:
    """The step of a checkpoint; None where its meta.json is not as it was written."""
    try:
        contents = _checked_files(path, ("meta.json",))
        step = parse_json(contents["meta.json"]).get("step")
    except (BadCheckpoint, *_DAMAGE):
        return None
    return step if isinstance(step, int) else None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, meta) of one checkpoint. Raises BadCheckpoint if any bit differs from what was written."""
    try:
        contents = _checked_files(path, _FILES)
        if strange := {file.name for file in path.iterdir()} - {*_FILES, "MANIFEST.json"}:
            raise BadCheckpoint(f"{path} holds what was not saved there: {', '.join(sorted(strange))}.")
        tensors, _ = tensors_from_bytes(contents["state.safetensors"])
        meta = dict(parse_json(contents["meta.json"]))
    except _DAMAGE as error:
        raise BadCheckpoint(f"{path} is not a whole checkpoint: {type(error).__name__} {error}.") from None
    return tensors, meta


def _checked_files(path: Path, files: Sequence[str]) -> dict[str, bytes]:
    """The contents of these files of a checkpoint, checked by its manifest. Raises BadCheckpoint or one of _DAMAGE."""
    if not (path / "MANIFEST.json").is_file() or (path / "MANIFEST.json").stat().st_size > _MANIFEST_MOST:
        raise BadCheckpoint(f"{path} is not a whole checkpoint: it has no MANIFEST.json, or one that is too large.")
    written = (path / "MANIFEST.json").read_bytes()
    manifest = parse_json(written)
    body = {key: value for key, value in manifest.items() if key != "self"}
    if written != _sealed(body):
        raise BadCheckpoint(f"{path}/MANIFEST.json does not match its own digest.")
    if manifest["format"] != FORMAT:
        raise BadCheckpoint(f"{path} has format {manifest['format']}; this version of ganzoo reads {FORMAT}.")
    if manifest["name"] != path.name or sorted(manifest["files"]) != sorted(_FILES):
        raise BadCheckpoint(f"{path}/MANIFEST.json belongs to another checkpoint.")
    return {file: _checked(path / file, manifest["files"][file]) for file in files}


def _is_good(path: Path) -> bool:
    try:
        load(path)
    except BadCheckpoint:
        return False
    return True


def _checked(path: Path, expected: Mapping[str, Any]) -> bytes:
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise BadCheckpoint(f"{path} has {size} bytes, expected {expected['bytes']}.")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != expected["sha256"]:
        raise BadCheckpoint(f"{path} has sha256 {found[:16]}..., expected {expected['sha256'][:16]}...")
    return data


class Saved(NamedTuple):
    """A checkpoint that was read, and a note for each newer one that was skipped because it is damaged."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    notes: list[str]


def load_latest(folder: Path, step: int | None = None) -> Saved | None:
    """The newest valid checkpoint below `folder`, of at most step `step` if given; None if there are none.

    The newest one is that of the highest step. Raises GanzooError if there are checkpoints and all are damaged.
    """
    notes: list[str] = []
    for name in reversed(_names(folder)):
        if step is not None and (_step(folder / name) or 0) > step:
            continue
        try:
            tensors, meta = load(folder / name)
            if not isinstance(meta.get("step"), int) or meta["step"] < 0:
                raise BadCheckpoint(f"{folder / name}/meta.json does not name its step.")
            return Saved(tensors, meta, notes)
        except BadCheckpoint as error:
            notes.append(f"passed over a damaged checkpoint: {error}")
    if notes:
        raise GanzooError(f"No usable checkpoint in {folder}: {notes[0].removeprefix('passed over a ')}")
    return None
