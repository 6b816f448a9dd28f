"""Folders of shards: finding them, writing them, and their SHA256SUMS."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

import ganzoo
from ganzoo_plugins.datasets._classes import NAMES_FILE, write_names_of
from ganzoo_plugins.datasets._decoder import cores

SUMS_FILE = "SHA256SUMS"
#: a shard is closed when it has so many bytes
SHARD_BYTES = 256 << 20
#: images that are read at once while shards are written
_CHUNK = 256


def list_shards(path: Path) -> tuple[Path, list[str]]:
    """The folder and the names below it of the tar files of `path`, sorted. Raises GanzooError if there are none."""
    if path.is_file():
        return path.parent, [path.name]
    if not path.is_dir():
        raise ganzoo.UsageError(f"There is no folder {path}: give as path= a folder of tar files.")
    files = [file.relative_to(path) for file in path.rglob("*.tar*") if file.is_file()]
    files = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    names = sorted(file.as_posix() for file in files if file.suffix == ".tar")
    if not names:
        packed = next((file for file in sorted(files)), None)
        more = f", only {click.format_filename(str(packed))}: unpack compressed ones" if packed else ""
        raise ganzoo.GanzooError(f"{path} has no tar files{more}.")
    return path, names


def write_split(folder: Path, split: str, dataset: ganzoo.Dataset, done: Callable[[int], None]) -> dict[str, str]:
    """Write a split as SPLIT-00000-of-00002.tar and so on; the sha256 of each by its name."""
    labelled = dataset.spec.classes > 1
    if dataset.spec.channels not in (1, 3):
        raise ganzoo.UsageError(f"Images of {dataset.spec.channels} channels cannot be written as PNG: 1 or 3 can.")
    written: list[Path] = []
    archive: tarfile.TarFile | None = None
    try:
        for number, (picture, label) in enumerate(_pictures(dataset)):
            if archive is None:
                written.append(folder / f"{split}-{len(written):05}.tar")
                archive = tarfile.open(written[-1], "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (closed below)
            _add(archive, f"{number:09}.png", picture)
            if labelled:
                _add(archive, f"{number:09}.cls", str(label).encode())
            if archive.offset >= SHARD_BYTES:
                archive.close()
                archive = None
            done(1)
    finally:
        if archive is not None:
            archive.close()
    sums = {}
    for number, path in enumerate(written):
        final = path.with_name(f"{split}-{number:05}-of-{len(written):05}.tar")
        path.rename(final)
        sums[final.name] = _sha256(final)
    return sums


def write_sums(folder: Path, dataset: ganzoo.Dataset, sums: dict[str, str]) -> None:
    """Write SHA256SUMS, and the names of the classes where there is more than one."""
    if dataset.spec.classes > 1:
        sums = {**sums, NAMES_FILE: _sha256(write_names_of(folder, dataset))}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    (folder / SUMS_FILE).write_text(lines, encoding="utf-8")


def check_sums(root: Path, names: Sequence[str]) -> str:
    """Compare these files with SHA256SUMS, where there is one; words on it. Raises GanzooError for another content."""
    try:
        lines = (root / SUMS_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise ganzoo.GanzooError(f"{root / SUMS_FILE} cannot be read: mend it, or delete it.") from None
    sums = {line[64:].lstrip(" *").removeprefix("./"): line[:64].lower() for line in lines if line.strip()}
    missing = sorted(name for name in sums if not (root / name).exists())
    if missing:
        raise ganzoo.GanzooError(f"{root} lacks {missing[0]}, which {SUMS_FILE} names: put it back.")
    for name in names:
        if name in sums and _sha256(root / name) != sums[name]:
            raise ganzoo.GanzooError(
                f"{root / name} is not what {SUMS_FILE} says (sha256 {sums[name][:12]}): copy it anew."
            )
    return f", sha256 of {SUMS_FILE}"


def _pictures(dataset: ganzoo.Dataset) -> Iterator[tuple[bytes, int]]:
    """Each image as a PNG, made on all cores, with its label."""
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(dataset), _CHUNK):
            images, labels = dataset.read(torch.arange(start, min(start + _CHUNK, len(dataset))))
            waiting.extend(pool.submit(_png, image) for image in images.numpy())
            for label in labels.tolist():
                yield waiting.popleft().result(), label


def _png(image: np.ndarray) -> bytes:
    """An image (C, H, W) as a PNG."""
    buffer = io.BytesIO()
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    Image.fromarray(pixels).save(buffer, "png", compress_level=3)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a file, whose dates and owner are the same everywhere."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
    vars(archive)["members"] = []  # otherwise it keeps a description of every member in memory


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
