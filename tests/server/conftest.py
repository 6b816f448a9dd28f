"""Servers of tests: an application that listens in a thread of this process, and a real browser."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ganzoo.server.running import address_of, listen

Serve = Callable[[Any], str]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """A function that serves an application on a free port of this machine, and returns its address."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra `serve`")
    started: list[tuple[Any, threading.Thread]] = []

    def start(app: Any) -> str:
        listener = listen("127.0.0.1", 0, 0)
        server = uvicorn.Server(
            uvicorn.Config(app, ws="none", lifespan="off", log_level="warning", server_header=False)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        address = address_of(listener)
        thread.start()
        started.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return address

    yield start
    for server, thread in started:
        server.force_exit = server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def raw_request(address: str, request: str) -> tuple[int, str]:
    """(status, whole answer) of an HTTP request that is sent as it is written; a client would tidy its path."""
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode("latin-1"))
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    text = answer.decode("latin-1")
    return int(text.split(" ", 2)[1]), text


@pytest.fixture(scope="session")
def ask() -> Callable[..., tuple[int, str]]:
    """`raw_request` with a path, a method and headers: ask(address, "/..", "POST", Host="evil.example")."""

    def send(address: str, path: str = "/", method: str = "GET", **headers: str | None) -> tuple[int, str]:
        given = {"Host": address.removeprefix("http://").rstrip("/"), "Connection": "close"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[dict-item]
        lines = "".join(f"{name}: {value}\n" for name, value in given.items() if value is not None)
        return raw_request(address, f"{method} {path} HTTP/1.1\n{lines}\n")

    return send
