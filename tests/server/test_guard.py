"""Every request must be for us, from us, and read only; every answer has the headers of security."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.server import running
from ganzoo.server.guard import allowed_names, is_loopback
from ganzoo.server.running import address_of, guarded, listen, require_packages

applications = pytest.importorskip("starlette.applications", reason="needs the extra `serve`")
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402

Ask = Callable[..., tuple[int, str]]


def _page(host: str = "127.0.0.1", *names: str) -> Any:
    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    routes = [Route("/", hello), Route("/data.json", hello)]
    return guarded(applications.Starlette(routes=routes), host, names)


@pytest.fixture(scope="module")
def address(serve: Callable[[Any], str]) -> str:
    return serve(_page())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:99", "[::1]", "[::1]:8430", "localhost:1"])
def test_own_hosts_are_answered(address: str, ask: Ask, host: str) -> None:
    status, answer = ask(address, Host=host)
    assert status == 200
    assert answer.endswith("hello")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "192.168.1.7",
        "[::2]",
        "",
        "localhost@evil.example",
        "localhost, evil.example",
        "localhost:port",
        "localhost/evil",
        "0x7f000001",
    ],
)
def test_foreign_hosts_are_refused(address: str, ask: Ask, host: str) -> None:
    status, answer = ask(address, Host=host)
    assert status == 400
    assert "hello" not in answer


def test_a_request_names_one_host(address: str, ask: Ask) -> None:
    assert ask(address, Host=None)[0] == 400
    assert ask(address, Host="127.0.0.1\nHost: localhost")[0] == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_only_reading(address: str, ask: Ask, method: str) -> None:
    status, answer = ask(address, "/", method)
    assert status == 405
    assert "allow: get, head" in answer.lower()


def test_head_has_no_body(address: str, ask: Ask) -> None:
    status, answer = ask(address, "/", "HEAD")
    assert status == 200
    assert not answer.partition("\r\n\r\n")[2]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
def test_foreign_origins_are_refused(address: str, ask: Ask, origin: str) -> None:
    assert ask(address, Origin=origin)[0] == 403
    assert ask(address, Origin=address.rstrip("/"))[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_of_other_sites_are_refused(address: str, ask: Ask, site: str) -> None:
    image = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
    assert ask(address, **image)[0] == 403
    assert ask(address, Sec_Fetch_Site=site)[0] == 403
    frame = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}
    assert ask(address, **frame)[0] == 403
    # a link to the page may be followed; a link to its data may not
    link = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(address, **link)[0] == 200
    assert ask(address, "/data.json", **link)[0] == 403


_PATHS = [
    *("/..", "/../etc/passwd", "/%2e%2e/etc/passwd", "/..%2fetc%2fpasswd", "//etc/passwd", "/run/../../etc/passwd"),
    *("/data.json%00", "/etc/passwd", "/data.json/", "/%00", "/\\..\\x"),
]


@pytest.mark.parametrize("path", _PATHS)
def test_no_other_path_is_answered(address: str, ask: Ask, path: str) -> None:
    status, answer = ask(address, path)
    assert status in (400, 404)
    assert "root:" not in answer


def test_headers(address: str, ask: Ask) -> None:
    for path, status in (("/", 200), ("/nothing", 404)):
        found, answer = ask(address, path)
        assert found == status
        head = answer.partition("\r\n\r\n")[0].lower().splitlines()
        for line in (
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "cross-origin-resource-policy: same-origin",
            "cross-origin-opener-policy: same-origin",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ):
            assert line in head
        assert not any(line.startswith(("server:", "access-control")) for line in head)
    refused = ask(address, Host="evil.example")[1].lower()
    assert "content-security-policy" in refused
    assert "nosniff" in refused


def test_other_machines_ask_by_address_or_by_a_name_that_was_given(serve: Callable[[Any], str], ask: Ask) -> None:
    address = serve(_page("0.0.0.0", "zoo.example"))
    for host in ("192.168.1.7:8430", "zoo.example", "localhost", socket.gethostname(), "[fe80::1]"):
        assert ask(address, Host=host)[0] == 200, host
    assert ask(address, Host="evil.example")[0] == 400


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.7", "zoo.example")))
    assert socket.gethostname().lower() in allowed_names("0.0.0.0")
    assert allowed_names("127.0.0.1", ["Proxy.Example"]) == {"localhost", "127.0.0.1", "::1", "proxy.example"}


def test_a_taken_port() -> None:
    with listen("127.0.0.1", 0, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} of 127.0.0.1 is taken: name another by --port"):
            listen("127.0.0.1", port, 1)
        with listen("127.0.0.1", None, port) as free:  # the next free one
            assert port < free.getsockname()[1] < port + 20
        assert address_of(taken) == f"http://127.0.0.1:{port}/"


def test_all_ports_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(self: socket.socket, address: object) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(running.socket, "socket", type("Taken", (socket.socket,), {"bind": bind}))
    with pytest.raises(UsageError, match=r"The ports 8430 to 8449 of .* are taken"):
        listen("127.0.0.1", None, 8430)


def test_hosts_that_are_not_here() -> None:
    with pytest.raises(UsageError, match=r"--host no\.such\.host\.invalid: it has no address"):
        listen("no.such.host.invalid", 0, 0)
    with pytest.raises(UsageError, match=r"Cannot listen on 203\.0\.113\.7, port 8430"):
        listen("203.0.113.7", 8430, 0)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    require_packages("explore")
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GanzooError, match=r"`ganzoo explore` needs starlette and uvicorn.*torch-ganzoo\[serve\]"):
        require_packages("explore")
