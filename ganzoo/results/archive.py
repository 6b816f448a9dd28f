"""Runs in one archive file: the same files make the same bytes, and each is compared after the archive is written."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.results.runs import refuse_unsafe
from ganzoo.storage.files import naming, sync_directory

#: what a light archive leaves out: with it the run could be resumed
_CHECKPOINTS = "checkpoints"
#: the time of every file in an archive, 1980-01-01 UTC: the first one that zip can write
_TIME = 315_532_800
_SUFFIXES = (".tar.gz", ".tgz", ".zip")


def archive_runs(
    runs: Sequence[Path], out: Path | None = None, light: bool = False, note: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Write runs into one archive, .tar.gz or .zip, and compare what it holds with the files. The runs stay.

    `light` leaves out the checkpoints: the run can be looked at, sampled and scored, but not resumed. Locks, hidden
    files and links are left out. Returns path, runs, files, bytes and sha256. Raises UsageError where a run or the
    name of the file is wrong, GanzooError where a run is being written, or changes meanwhile.
    """
    for run in runs:
        refuse_unsafe(run, "archived")
    folders = [run.resolve() for run in runs]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        same = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"Two of the runs are called {same!r}: archive them one by one.")
    path = out or Path(f"{names[0] if len(names) == 1 else 'runs'}.tar.gz")
    _refuse_path(path, folders)
    files = {
        f"{folder.name}/{name}": folder / name for folder in folders for name in sorted(_files_of(folder, light, note))
    }
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    write, read = (_write_zip, _read_zip) if path.suffix == ".zip" else (_write_tar, _read_tar)
    try:
        with naming(path):
            written = write(temporary, files)
            _verify(read(temporary), written, files, path)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = temporary.stat().st_size
            os.rename(temporary, path)
            sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return {"path": str(path), "runs": list(map(str, runs)), "files": len(files), "bytes": size, "sha256": digest}


def _refuse_path(path: Path, folders: Sequence[Path]) -> None:
    if not path.name.endswith(_SUFFIXES):
        raise UsageError(f"-o {path}: the file must end in .tar.gz or .zip.")
    if os.path.lexists(path):
        raise UsageError(f"{path} exists already: name another file with -o, or remove it.")
    if not path.parent.is_dir():
        raise UsageError(f"-o {path}: there is no directory {path.parent}.")
    if any(path.resolve().is_relative_to(folder) for folder in folders):
        raise UsageError(f"-o {path} lies in the run itself: name a file outside of it.")


def _files_of(run: Path, light: bool, note: Callable[[str], None]) -> Iterator[str]:
    """The files of a run below its directory, with slashes."""
    for folder, inner, names in os.walk(run):
        at = Path(folder).relative_to(run)
        links = [name for name in (*inner, *names) if (run / at / name).is_symlink()]
        for name in links:
            note(f"Left out: {run / at / name} is a link.")
        hidden = {name for name in inner if name.startswith(".")}
        skipped = {_CHECKPOINTS} if light and at == Path() else set()
        inner[:] = sorted(set(inner) - set(links) - hidden - skipped)
        yield from ((at / name).as_posix() for name in names if name not in links and not _is_passing(at / name))


def _is_passing(name: Path) -> bool:
    """Whether a file belongs to the process that writes: the lock, and hidden files."""
    return name.name.startswith(".") or name.as_posix() == "lock"


class _Digested:
    """A file that is read once, with the sha256 of what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        data = self.file.read(count)
        self.sha256.update(data)
        return data


def _write_tar(path: Path, files: dict[str, Path]) -> dict[str, str]:
    """Write the files into a .tar.gz. Returns the sha256 of each."""
    found = {}
    with (
        open(path, "xb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, file in files.items():
            with open(file, "rb") as opened:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime, entry.mode = os.fstat(opened.fileno()).st_size, _TIME, 0o644
                source = _Digested(opened)
                archive.addfile(entry, source)  # type: ignore[arg-type]
                found[name] = source.sha256.hexdigest()
    return found


def _read_tar(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with tarfile.open(path, "r:gz") as archive:
        for entry in archive:
            yield entry.name, archive.extractfile(entry) or io.BytesIO()  # type: ignore[misc]


def _write_zip(path: Path, files: dict[str, Path]) -> dict[str, str]:
    """Write the files into a .zip. Returns the sha256 of each."""
    found = {}
    with zipfile.ZipFile(path, "x") as archive:
        for name, file in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            digest = hashlib.sha256()
            with open(file, "rb") as opened, archive.open(entry, "w", force_zip64=True) as packed:
                while data := opened.read(1 << 20):
                    digest.update(data)
                    packed.write(data)
            found[name] = digest.hexdigest()
    return found


def _read_zip(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                yield name, file  # type: ignore[misc]


def _verify(held: Iterator[tuple[str, BinaryIO]], written: dict[str, str], files: dict[str, Path], path: Path) -> None:
    """Raise GanzooError unless the archive holds exactly the files, as they were read and as they are now."""
    packed = {name: _sha256(file) for name, file in held}
    if packed != written:
        raise GanzooError(
            f"{path} does not hold what was written to it: the disk may be damaged. Nothing is left of it."
        )
    for name, file in files.items():
        with open(file, "rb") as opened:
            if _sha256(opened) != written[name]:
                raise GanzooError(f"{file} has changed while it was archived: try again once nothing writes the run.")


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while data := file.read(1 << 20):
        digest.update(data)
    return digest.hexdigest()
