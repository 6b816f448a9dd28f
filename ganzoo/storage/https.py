"""Requests over https, or over http to this machine itself; redirects elsewhere are refused."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import click

#: seconds without a byte after which a connection counts as lost
TIMEOUT_SECONDS = 10
#: bytes that are read at a time
CHUNK = 1 << 18


class Unavailable(Exception):
    """A source cannot deliver the file, and another request would not help."""


class Interrupted(Exception):
    """A transfer broke off; another request may help."""


@contextlib.contextmanager
def response_of(address: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    """The open response of a server. Raises Interrupted for errors that may pass, Unavailable for the others."""
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
        raise (Interrupted if may_pass else Unavailable)(reason) from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        # a server that does not answer in time seldom answers the next request, and there may be another source
        kind = Unavailable if isinstance(cause, TimeoutError) else Interrupted
        raise kind(str(cause) or type(cause).__name__) from None
    with response:
        yield response


def read_chunk(response: http.client.HTTPResponse) -> bytes:
    """Up to `CHUNK` bytes; empty at the end. Raises Interrupted if the connection is lost."""
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(str(error) or type(error).__name__) from None


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only to an address that would be allowed itself; urllib would go from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request. Raises Unavailable for an address that is not allowed."""
        try:
            _check_address(newurl)
        except Unavailable:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(address: str) -> None:
    """Raise Unavailable unless it is https, or http on this machine."""
    if urlsplit(address).scheme != "https" and not (urlsplit(address).scheme == "http" and _is_loopback(address)):
        raise Unavailable(f"{urlsplit(address).scheme}://{urlsplit(address).netloc} is not allowed, only https is")


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Received:
    """Prints the progress of a download on stderr: after two seconds, and then every ten seconds."""

    FIRST, INTERVAL = 2.0, 10.0

    def __init__(self, name: str, size: int, begin: int = 0) -> None:
        self._name, self._size, self._begin = name, size, begin
        self._start = time.monotonic()
        self._due = self._start + self.FIRST

    def __call__(self, received: int) -> None:
        """Call this after each chunk, with the number of bytes that the file has now."""
        now = time.monotonic()
        if now < self._due or received <= self._begin or received >= self._size:
            return
        self._due = now + self.INTERVAL
        seconds = (now - self._start) / (received - self._begin) * (self._size - received)
        left = f"{seconds / 60:.0f} min" if seconds > 100 else f"{seconds:.0f} s"
        done, total = received / 1e6, self._size / 1e6
        click.echo(f"{self._name}: {done:.1f} of {total:.1f} MB, about {left} left.", err=True)
