"""What every request to our servers must pass, and the headers of every response.

A page on this machine can be reached by any web site that the user's browser has open. So a request must name a host
that is ours (against DNS rebinding), must not come from a page of another site, and can only read.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: names of this machine to itself
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    # of answers that are not pages; a page has its own
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine only."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_names(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """The names by which a server that listens on `host` may be asked, in small letters.

    With a host that is not loopback these are also the name of the machine and `more`; its addresses see `Guard`.
    """
    names = LOOPBACK | {host.lower(), *(name.lower() for name in more)}
    return frozenset(names) if is_loopback(host) else frozenset(names | {socket.gethostname().lower()})


class Guard:
    """Wraps an ASGI application: refuses requests that are not ours, and adds the headers of security."""

    def __init__(self, app: ASGIApp, names: frozenset[str], addresses: bool) -> None:
        """`names` may stand in a request's Host; with `addresses` any IP address may: no foreign name leads there."""
        self.app, self.names, self.addresses = app, names, addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message)
            await send(message)

        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        refusal = self._refusal(scope, headers)
        if refusal is None:
            return await self.app(scope, receive, send_with_headers)
        from starlette.responses import PlainTextResponse

        status, sentence = refusal
        allow = {"Allow": "GET, HEAD"} if status == 405 else None
        return await PlainTextResponse(f"{sentence}\n", status, allow)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        """The status and the reason for which a request is refused; None if it is answered."""
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "This server only shows: it answers GET and HEAD."
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 400, "This host name is not one of this server's: use the address that it printed."
        for origin in headers.get("origin", []):
            if urlsplit(origin).netloc.lower() != hosts[0].lower():
                return 403, "A page of another site may not read this one."
        if _is_foreign(scope, headers):
            return 403, "A page of another site may not use this one."
        return None

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match["name"].strip("[]")
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.addresses


def _is_foreign(scope: Scope, headers: dict[str, list[str]]) -> bool:
    """Whether the browser says that another site asks. Following a link to the page is not refused."""
    if headers.get("sec-fetch-site", ["none"])[0].lower() in ("none", "same-origin"):
        return False
    opened = headers.get("sec-fetch-mode") == ["navigate"] and headers.get("sec-fetch-dest") == ["document"]
    return not (opened and scope["path"] == "/")


def _add_headers(message: MutableMapping[str, Any]) -> None:
    """Add the headers that an answer has not set itself."""
    there = {name.lower() for name, _ in message["headers"]}
    new = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
    message["headers"] = [*message["headers"], *(header for header in new if header[0] not in there)]
