"""Archives of public datasets: got once, known by their sha256, placed whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import ipaddress
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import click

import ganzoo

TRIES = 3
PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 10
_CHUNK = 1 << 18


class _Unavailable(Exception):
    """A source will not give the archive, and asking again will not help."""


class _Interrupted(Exception):
    """A transfer broke off; asking again may help."""


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file of a dataset: `folder`/`name` below `ganzoo.data_dir()`.

    Got by https alone (http from this machine only), or from the one place `GANZOO_MIRROR` names: an address or a
    folder that holds the same `folder`/`name`.
    """

    folder: str
    name: str
    size: int
    sha256: str
    #: addresses of folders that hold `name`, in the order in which they are asked
    sources: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where it lies, or is to lie."""
        return ganzoo.data_dir() / self.folder / self.name

    def fetch(self) -> Path:
        """Its path, verified; got first where it is absent. Nothing is written where it is present."""
        if not self.path.exists():
            if os.environ.get("GANZOO_OFFLINE"):
                raise ganzoo.GanzooError(f"{self.path} is absent and nothing is fetched here; {self._advice()}.")
            _download(self, self.path)
        self.check()
        return self.path

    def _advice(self) -> str:
        return (
            f"put it into {self.path.parent} yourself, or set GANZOO_DATA (--data-dir) to a folder that has "
            f"{self.folder}/{self.name}, or GANZOO_MIRROR to an address or a folder that has it"
        )

    def check(self) -> None:
        """Raises GanzooError unless the file is, byte for byte, the published one."""
        try:
            with self.path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ganzoo.GanzooError(
                f"{self.path} cannot be read ({error.strerror}): make it readable, or set GANZOO_DATA (--data-dir) to "
                f"a folder that has {self.folder}/{self.name}."
            ) from None
        if found != self.sha256:
            raise ganzoo.GanzooError(
                f"{self.path} is damaged, its sha256 is {found} and should be {self.sha256}: delete it, and it is "
                "fetched anew."
            )


def _download(archive: Archive, path: Path) -> None:
    """Write the archive under a name of its own, and give it its final name once it is complete and verified.

    Any number of processes may do so at once. One that is killed leaves a hidden `.part` file that nothing reads.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb+") as file:
            click.echo(f"Fetching {archive.folder}/{archive.name} ({archive.size / 1e6:.1f} MB).", err=True)
            _fill(file, archive)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ganzoo.GanzooError(
            f"{path} is absent and cannot be written ({error.strerror}): set GANZOO_DATA (--data-dir) to a folder that "
            f"has {archive.folder}/{archive.name}, or to one you may write to, with {archive.size / 1e6:.1f} MB free."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _fill(file: IO[bytes], archive: Archive) -> None:
    """Fill the empty `file` from the first source that has the published archive."""
    mirror = os.environ.get("GANZOO_MIRROR")
    sources = (f"{mirror.rstrip('/')}/{archive.folder}",) if mirror else archive.sources
    refusals = []
    for source in sources:
        address = f"{source.rstrip('/')}/{archive.name}"
        try:
            _fill_from(address, file, archive)
            return
        except _Unavailable as refusal:
            refusals.append(f"{address}: {refusal}")
            _empty(file)
    raise ganzoo.GanzooError(f"{archive.name} could not be had ({'; '.join(refusals)}): {archive._advice()}.")


def _fill_from(address: str, file: IO[bytes], archive: Archive) -> None:
    for attempt in range(TRIES):
        time.sleep(attempt * PAUSE_SECONDS)
        try:
            if urlsplit(address).scheme in ("http", "https"):
                _transfer(address, file, archive.size)
            else:
                _copy(address, file, archive.size)
            break
        except _Interrupted as interruption:
            reason = str(interruption)
    else:
        raise _Unavailable(f"{reason}, {TRIES} times")
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if found != archive.sha256:
        raise _Unavailable(f"what came has the sha256 {found}, not {archive.sha256}")


def _copy(address: str, file: IO[bytes], size: int) -> None:
    if "://" not in address:
        path = Path(os.path.expanduser(address))
    elif urlsplit(address).scheme == "file":
        path = Path(urllib.request.url2pathname(urlsplit(address).path))
    else:
        raise _Unavailable("an address starts with https:// or file://")
    try:
        source = path.open("rb")
    except OSError as error:
        raise _Unavailable(f"{error.strerror}") from None
    with source:
        while chunk := source.read(_CHUNK):
            _append(file, chunk, size)
    if file.tell() < size:
        raise _Unavailable(f"it has {file.tell()} bytes, not {size}")


def _transfer(address: str, file: IO[bytes], size: int) -> None:
    """Append to `file` what it lacks of the `size` bytes at `address`; all of it where the server knows no ranges."""
    offset = file.tell()
    headers = {"User-Agent": "ganzoo"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with _answer(address, headers) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        if offset and not resumed:
            _empty(file)
        if response.status == 206 and not resumed:
            raise _Interrupted("the server sent another part than it was asked for")
        while chunk := _receive(response):
            _append(file, chunk, size)
    if file.tell() < size:
        raise _Interrupted(f"the connection ended after {file.tell()} of {size} bytes")


@contextlib.contextmanager
def _answer(address: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    """The open answer of a server, its failures sorted into those that may pass and those that will not."""
    _check_address(address)
    # a proxy cannot reach this machine's own loopback addresses
    proxies = urllib.request.ProxyHandler({} if _is_loopback(address) else None)
    opener = urllib.request.build_opener(_SafeRedirects, proxies)
    try:
        response = opener.open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_SECONDS)  # noqa: S310 (checked)
    except urllib.error.HTTPError as error:
        error.close()
        reason = " ".join(f"{error.code} {error.reason}".split())
        may_pass = error.code in (408, 425, 429) or error.code >= 500
        raise (_Interrupted if may_pass else _Unavailable)(reason) from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        # who stays silent for so long will do so again, and another source may be waiting
        kind = _Unavailable if isinstance(cause, TimeoutError) else _Interrupted
        raise kind(str(cause) or type(cause).__name__) from None
    with response:
        yield response


def _receive(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None


def _append(file: IO[bytes], chunk: bytes, size: int) -> None:
    """Refuses at its first bytes what is no gzip archive, and never writes more than `size` bytes."""
    if file.tell() == 0 and not chunk.startswith(b"\x1f\x8b"[: len(chunk)]):
        raise _Unavailable("a web page came instead" if chunk.lstrip()[:1] == b"<" else "what came is no gzip archive")
    if file.tell() + len(chunk) > size:
        raise _Unavailable(f"more than the expected {size} bytes came")
    file.write(chunk)


def _empty(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to where we would not have gone ourselves; urllib would go from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request. Raises _Unavailable for an address that is not allowed."""
        try:
            _check_address(newurl)
        except _Unavailable:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(address: str) -> None:
    if urlsplit(address).scheme != "https" and not (urlsplit(address).scheme == "http" and _is_loopback(address)):
        raise _Unavailable(f"{urlsplit(address).scheme}://{urlsplit(address).netloc} is not asked, only https is")


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
