"""Download a published file once: over https, checked against its sha256, complete or absent."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import os
import secrets
import time
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import click

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.paths import data_dir
from ganzoo.storage.https import CHUNK, Interrupted, Received, Unavailable, read_chunk, response_of
from ganzoo.storage.lock import exclusive

#: the first bytes of a gzip file
GZIP = b"\x1f\x8b"
#: requests to one source before it counts as failed
TRIES = 3
#: the pause before the second request; before the third it is twice as long
PAUSE_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published file, stored as `folder`/`name` below `ganzoo.data_dir()` or below another folder `base`.

    It is downloaded over https only (http from this machine only), or from the one place that `GANZOO_MIRROR` names: an
    address or a folder that has the same `folder`/`name`. With `GANZOO_OFFLINE` set nothing is downloaded.

    A download that was interrupted is continued by the next call, also in another process, from the hidden `.part` file
    that it left. Of several processes that want the file, one downloads it and the others wait.
    """

    folder: str
    name: str
    #: in bytes
    size: int
    sha256: str
    #: addresses of folders that hold `name`, in the order in which they are tried
    sources: tuple[str, ...]
    #: None: `ganzoo.data_dir()`
    base: Path | None = None
    #: the bytes that the file begins with, such as b"\x1f\x8b" for gzip: a wrong answer is refused early
    first_bytes: bytes = b""
    #: what else a user can do where the file cannot be downloaded; ends the error message
    advice: str = ""

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        return (self.base or data_dir()) / self.folder / self.name

    def fetch(self) -> Path:
        """Download the file if it is absent, check it, and return its path. Nothing is written if it is present.

        Raises GanzooError where no source has it, it cannot be written, or what is there is damaged.
        """
        if not self.path.exists():
            if os.environ.get("GANZOO_OFFLINE"):
                raise GanzooError(
                    f"{self.path} is absent and nothing is fetched here (GANZOO_OFFLINE); {self._advice()}."
                )
            _download(self)
        self.check()
        return self.path

    def check(self) -> None:
        """Raise GanzooError unless the file is, byte for byte, the published one."""
        try:
            with self.path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise GanzooError(
                f"{self.path} cannot be read ({error.strerror}): make it readable, or {self._elsewhere()}."
            ) from None
        if found != self.sha256:
            raise GanzooError(
                f"{self.path} {_difference(self)}, its sha256 is {found} and should be {self.sha256}: move it "
                f"away, and the published file is fetched anew."
            )

    def _elsewhere(self) -> str:
        """How to use a copy in another folder."""
        setting = "GANZOO_DATA (--data-dir)" if self.base is None else "GANZOO_CACHE"
        return f"set {setting} to a folder that has {self.folder}/{self.name}"

    def _advice(self) -> str:
        """What to do where the file cannot be downloaded."""
        steps = [f"put it into {self.path.parent} yourself"]
        if self.base is None:
            steps += [self._elsewhere(), "GANZOO_MIRROR to an address or a folder that has it"]
        else:
            steps += [f"set GANZOO_MIRROR to an address or a folder that has {self.folder}/{self.name}"]
        return ", or ".join([*steps, self.advice] if self.advice else steps)


def _difference(archive: Archive) -> str:
    """What is known of a file that is not the published one, in words. It may be a file that the user made."""
    try:
        size = archive.path.stat().st_size
        with archive.path.open("rb") as file:
            begin = file.read(64)
    except OSError:
        return "is not the published file"
    if begin.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page and not the published file"
    expected = archive.first_bytes
    if not begin.startswith(expected):
        why = " (some browsers unpack it)" if expected == GZIP and size > archive.size else ""
        return f"is not the published file: it is not packed by gzip{why}" if expected == GZIP else "is another file"
    if expected == GZIP and _unpacked_begin(archive.path) == GZIP:
        return "is not the published file: it is packed by gzip twice, and `gunzip` unpacks it once"
    if size != archive.size:
        cut = "was cut off or " if size < archive.size else ""
        return f"{cut}is another file than the published one: it has {size} bytes, not {archive.size}"
    return "is damaged"


def _unpacked_begin(path: Path) -> bytes:
    """The first two bytes of what a gzip file holds; empty where it cannot be unpacked."""
    try:
        with gzip.open(path) as file:
            return file.read(len(GZIP))
    # a damaged file may raise anything
    except Exception:
        return b""


def _download(archive: Archive) -> None:
    """Write the file under another name, and rename it once it is complete and its digest is right."""
    path = archive.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_name(f".{path.name}.lock"), _note_waiting(archive)) as locked:
            if path.exists():  # another process has downloaded it meanwhile
                return
            # where no lock is possible two processes may be here: each has a file of its own, which it cannot continue
            name = f".{path.name}.part" if locked else f".{path.name}.{secrets.token_hex(4)}.part"
            _download_by_way_of(path.with_name(name), archive, keep=locked)
    except OSError as error:
        elsewhere = archive._elsewhere()
        raise GanzooError(
            f"{path} is absent and cannot be written ({error.strerror}): {elsewhere}, or to one you may write to, with "
            f"{archive.size / 1e6:.1f} MB free."
        ) from None


def _note_waiting(archive: Archive) -> Any:
    return lambda: click.echo(f"Waiting for another process that fetches {archive.folder}/{archive.name}.", err=True)


def _download_by_way_of(partial: Path, archive: Archive, keep: bool) -> None:
    """Download to `partial`, then rename it. After a failure, bytes that the next call can continue are kept."""
    try:
        with partial.open("a+b") as file:  # at its end: what an earlier process has left is continued
            click.echo(f"Fetching {archive.folder}/{archive.name} ({archive.size / 1e6:.1f} MB).", err=True)
            _fill(file, archive)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(archive.path)
    finally:
        with contextlib.suppress(OSError):
            if not keep or partial.stat().st_size == 0:
                partial.unlink()


def _fill(file: IO[bytes], archive: Archive) -> None:
    """Complete `file` from the first source that has the published file."""
    mirror = os.environ.get("GANZOO_MIRROR")
    sources = (f"{mirror.rstrip('/')}/{archive.folder}",) if mirror else archive.sources
    failures: list[str] = []
    for source in sources:
        address = f"{source.rstrip('/')}/{archive.name}"
        if failures:
            _empty(file)
        try:
            _fill_from(address, file, archive)
            return
        except Unavailable as failure:
            failures.append(f"{address}: {failure}")
    raise GanzooError(f"{archive.name} could not be fetched ({'; '.join(failures)}): {archive._advice()}.")


def _fill_from(address: str, file: IO[bytes], archive: Archive) -> None:
    """Complete `file` from one source. Wrong bytes are thrown away."""
    if file.tell() > archive.size:
        _empty(file)
    left_before = file.tell()
    if left_before < archive.size:
        _receive(address, file, archive)
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if found == archive.sha256:
        return
    _empty(file)
    if left_before:  # perhaps it was the bytes of the earlier process that were wrong
        return _fill_from(address, file, archive)
    raise Unavailable(f"what came has the sha256 {found}, not {archive.sha256}, and was thrown away")


def _receive(address: str, file: IO[bytes], archive: Archive) -> None:
    """Append what is missing, in up to `TRIES` requests."""
    for attempt in range(TRIES):
        time.sleep(attempt * PAUSE_SECONDS)
        try:
            if urlsplit(address).scheme in ("http", "https"):
                _transfer(address, file, archive)
            else:
                _copy(address, file, archive)
            return
        except Interrupted as interruption:
            reason = str(interruption)
    raise Unavailable(f"{reason}, {TRIES} times")


def _copy(address: str, file: IO[bytes], archive: Archive) -> None:
    """Copy the file from a folder."""
    if "://" not in address:
        path = Path(os.path.expanduser(address))
    elif urlsplit(address).scheme == "file":
        path = Path(urllib.request.url2pathname(urlsplit(address).path))
    else:
        raise Unavailable("an address starts with https:// or file://")
    try:
        source = path.open("rb")
    except OSError as error:
        raise Unavailable(f"{error.strerror}") from None
    _empty(file)
    shown = Received(archive.name, archive.size)
    with source:
        while chunk := source.read(CHUNK):
            _append(file, chunk, archive)
            shown(file.tell())
    if file.tell() < archive.size:
        size = file.tell()
        _empty(file)
        raise Unavailable(f"it has {size} bytes, not {archive.size}")


def _transfer(address: str, file: IO[bytes], archive: Archive) -> None:
    """Append the missing bytes from a server, or all of them where it does not know ranges."""
    offset = file.tell()
    headers = {"User-Agent": "ganzoo"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with response_of(address, headers) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        if offset and not resumed:
            _empty(file)
        if response.status == 206 and not resumed:
            raise Interrupted("the server sent another part than it was asked for")
        shown = Received(archive.name, archive.size, file.tell())
        while chunk := read_chunk(response):
            _append(file, chunk, archive)
            shown(file.tell())
    if file.tell() < archive.size:
        raise Interrupted(f"the connection ended after {file.tell()} of {archive.size} bytes")


def _append(file: IO[bytes], chunk: bytes, archive: Archive) -> None:
    """Write a chunk. Wrong first bytes are refused, and the file never grows beyond its published size."""
    if file.tell() == 0:
        _check_first_bytes(chunk, archive.first_bytes)
    if file.tell() + len(chunk) > archive.size:
        _empty(file)
        raise Unavailable(f"more than the expected {archive.size} bytes came, they were thrown away")
    file.write(chunk)


def _check_first_bytes(chunk: bytes, expected: bytes) -> None:
    wrong = not chunk.startswith(expected[: len(chunk)])
    text = chunk.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")) or (wrong and text.startswith(b"<")):
        raise Unavailable("a web page came instead")
    if wrong:
        raise Unavailable(f"what came begins with {chunk[: len(expected)]!r}, not with {expected!r}")


def _empty(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()
