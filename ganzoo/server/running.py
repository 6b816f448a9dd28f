"""Run a server of a page: find a port, say the address, end on Ctrl-C."""

from __future__ import annotations

import errno
import importlib.util
import logging
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.server.guard import Guard, allowed_names, is_loopback

if TYPE_CHECKING:
    from starlette.applications import Starlette

#: ports that are tried one after another if none is asked for
_PORTS = 20
#: seconds that open connections have at the end
_GRACE = 1


def require_packages(command: str) -> None:
    """Raise GanzooError where the packages of the extra `serve` are not installed."""
    if missing := [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise GanzooError(
            f"`ganzoo {command}` needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            f"installed: pip install 'torch-ganzoo[serve]'."
        )


def listen(host: str, port: int | None, first: int) -> socket.socket:
    """A socket that listens on `host` at `port` (0: any free one; None: `first` or the next free one).

    Raises UsageError where the port is taken or the host is not an address of this machine.
    """
    for number in range(first, first + _PORTS) if port is None else [port]:
        try:
            family, *_, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            # named as TCP, so that asyncio sends small answers at once: without TCP_NODELAY each takes 40 ms more
            listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except (OSError, UnicodeError) as error:
            raise UsageError(f"--host {host}: it has no address ({error}).") from None
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise UsageError(f"Cannot listen on {host}, port {number}: {error.strerror}.") from None
        listener.setblocking(False)
        return listener
    if port is None:
        raise UsageError(f"The ports {first} to {first + _PORTS - 1} of {host} are taken: name a free one by --port.")
    raise UsageError(f"Port {port} of {host} is taken: name another by --port, or leave it out to get a free one.")


def address_of(listener: socket.socket) -> str:
    """The address of the page for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  (all addresses: it can be reached by this one)
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def guarded(app: Starlette, host: str, names: Sequence[str]) -> Guard:
    """The application behind the checks of `guard`, for a server that listens on `host`."""
    app.router.redirect_slashes = False  # a path is one of ours or not found
    return Guard(app, allowed_names(host, names), not is_loopback(host))


def run_server(
    app: Any,
    listener: socket.socket,
    announce: Callable[[str], None],
    open_browser: bool = False,
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Serve an ASGI application until Ctrl-C or SIGTERM; see `make_server`. Raises KeyboardInterrupt after Ctrl-C."""
    try:
        make_server(app, listener, announce, open_browser, stop).run(sockets=[listener])
    finally:
        listener.close()


def make_server(
    app: Any,
    listener: socket.socket,
    announce: Callable[[str], None],
    open_browser: bool,
    stop: Callable[[], None],
) -> Any:
    """A server of an ASGI application, not yet running. `announce` gets the address of the page when it is up.

    A signal ends it; `stop` is then called first, so that endless responses can end themselves.
    """
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            stop()
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            address = address_of(listener)
            announce(address)
            if open_browser:  # a browser in a terminal would stop the server
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    logging.getLogger("uvicorn.error").addFilter(lambda record: "ASGI callable returned" not in record.getMessage())
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=_GRACE,
    )
    return Server(config)
