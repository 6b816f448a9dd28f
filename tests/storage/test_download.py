"""Getting archives: from a real server on the loopback address, and every way in which that can go wrong."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ganzoo
from ganzoo_plugins.datasets import _archives
from ganzoo_plugins.datasets._archives import Archive

CONTENT = gzip.compress(random.Random(0).randbytes(300_000), mtime=0)
PATH = "/MNIST/raw/images.gz"


class Server:
    """A real server on the loopback address whose answers a test writes, one function for each request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []  # path and Range header
        self.answers: list[Callable[[http.server.BaseHTTPRequestHandler], None]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, self.headers.get("Range")))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                answer(self)
                self.close_connection = True

            def log_message(self, format, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def whole(handler, content=CONTENT, status=200, start=0, promise=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(promise or len(content)))
    if status == 206:
        handler.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{start + len(content)}")
    handler.end_headers()
    handler.wfile.write(content)


def half(handler):
    """Promises everything, sends the first half, hangs up."""
    whole(handler, CONTENT[: len(CONTENT) // 2], promise=len(CONTENT))


def rest(handler):
    """Heeds the range that was asked for."""
    start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    whole(handler, CONTENT[start:], 206, start)


def status(code, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GANZOO_MIRROR", server.address)
    monkeypatch.setattr(_archives, "PAUSE_SECONDS", 0.01)
    # a proxy must not be asked for what is on this machine
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    yield server
    server.close()


@pytest.fixture
def archive() -> Archive:
    return Archive("MNIST/raw", "images.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), ())


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("answers", "ranges"),
    [
        ([whole], [False]),
        ([half, rest], [False, True]),
        ([half, whole], [False, True]),  # a server that knows no ranges starts again
        (
            [half, lambda handler: whole(handler, CONTENT[5:], 206, 5), whole],
            [False, True, False],
        ),  # a range nobody asked for
        ([status(500), status(503), whole], [False, False, False]),
        ([status(302, Location="/elsewhere"), whole], [False, False]),
    ],
    ids=["at once", "resumed", "started anew", "wrong range", "busy server", "redirected"],
)
def test_an_archive_arrives_whole(server, archive, capsys, answers, ranges):
    server.answers = answers
    assert archive.fetch().read_bytes() == CONTENT
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/images.gz"]
    assert server.requests[0] == (PATH, None)
    assert [asked is not None for _, asked in server.requests] == ranges
    assert "Fetching MNIST/raw/images.gz (0.3 MB)." in capsys.readouterr().err
    asked = len(server.requests)
    archive.fetch()
    assert len(server.requests) == asked, "what is present is not fetched again"


@pytest.mark.parametrize(
    ("answer", "requests", "reason"),
    [
        (half, 3, f"the connection ended after {len(CONTENT) // 2} of {len(CONTENT)} bytes, 3 times"),
        (lambda handler: whole(handler, CONTENT[:-9] + CONTENT[:9]), 1, "what came has the sha256"),
        (lambda handler: whole(handler, CONTENT + b"\0"), 1, "more than the expected"),
        (status(404), 1, "404 Not Found"),
        (status(500), 3, "500 Internal Server Error, 3 times"),
        (lambda handler: whole(handler, b"\n<!DOCTYPE html><title>Log in</title>"), 1, "a web page came instead"),
        (lambda handler: whole(handler, b"PK\3\4"), 1, "what came is no gzip archive"),
        (status(302, Location="/loop"), 11, "infinite loop"),
        (status(302, Location="http://example.com/"), 1, "http://example.com is not asked, only https is"),
        (
            status(302, Location="file:///etc/passwd"),
            1,
            "302 Found - Redirection to url 'file:///etc/passwd' is not allowed",
        ),
        (lambda handler: handler.wfile.write(b"nonsense"), 3, "3 times"),
    ],
    ids=["truncated", "wrong-hash", "too-long", "404", "500", "html", "zip", "loop", "to-http", "to-file", "nonsense"],
)
def test_a_failed_download_leaves_nothing_and_says_what_to_do(server, archive, answer, requests, reason):
    server.answers = [answer]
    with pytest.raises(ganzoo.GanzooError) as caught:
        archive.fetch()
    message = str(caught.value)
    assert reason in message
    assert f"put it into {ganzoo.data_dir() / 'MNIST/raw'} yourself" in message
    assert "GANZOO_DATA (--data-dir)" in message
    assert "GANZOO_MIRROR" in message
    assert "\n" not in message
    assert len(server.requests) <= requests
    assert not files_below(ganzoo.data_dir())


def test_a_silent_server_is_not_waited_for(server, archive, monkeypatch):
    monkeypatch.setattr(_archives, "TIMEOUT_SECONDS", 0.3)
    server.answers = [lambda _: time.sleep(1)]
    with pytest.raises(ganzoo.GanzooError, match=r"images.gz: timed out\)"):
        archive.fetch()
    assert len(server.requests) == 1

    def stalls(handler):
        half(handler)
        handler.wfile.flush()
        time.sleep(1)

    server.answers = [stalls, rest]
    assert archive.fetch().read_bytes() == CONTENT
    assert server.requests[-1] == (PATH, f"bytes={len(CONTENT) // 2}-")


def test_the_next_source_is_asked_when_one_fails(server, archive, monkeypatch):
    monkeypatch.delenv("GANZOO_MIRROR")
    server.answers = [half, half, half, whole]
    archive = dataclasses.replace(archive, sources=(f"{server.address}/first", f"{server.address}/second/"))
    archive.fetch()
    assert server.requests[0] == ("/first/images.gz", None)
    assert server.requests[-1] == ("/second/images.gz", None), "the second source starts from nothing"


def test_without_network_it_says_so_soon(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path))
    monkeypatch.setenv("GANZOO_MIRROR", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(ganzoo.GanzooError, match="Connection refused, 3 times"):
        archive.fetch()
    assert time.monotonic() - start < 10


def test_a_mirror_may_be_a_folder(archive, tmp_path, monkeypatch):
    mirror = tmp_path / "a mirror"
    (mirror / "MNIST/raw").mkdir(parents=True)
    (mirror / "MNIST/raw/images.gz").write_bytes(CONTENT)
    for number, address in enumerate((str(mirror), mirror.as_uri(), f"{mirror}/")):
        monkeypatch.setenv("GANZOO_DATA", str(tmp_path / str(number)))
        monkeypatch.setenv("GANZOO_MIRROR", address)
        assert archive.fetch().read_bytes() == CONTENT
    (mirror / "MNIST/raw/images.gz").write_bytes(CONTENT[:-9])
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "other"))
    with pytest.raises(ganzoo.GanzooError, match=f"it has {len(CONTENT) - 9} bytes, not {len(CONTENT)}"):
        archive.fetch()


@pytest.mark.parametrize("mirror", ["http://example.com/data", "ftp://127.0.0.1/", "/no/such/folder"])
def test_a_mirror_that_cannot_be_is_refused(archive, tmp_path, monkeypatch, mirror):
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path))
    monkeypatch.setenv("GANZOO_MIRROR", mirror)
    with pytest.raises(ganzoo.GanzooError, match=r"only https is|starts with https|No such file"):
        archive.fetch()


def test_a_damaged_archive_is_named_and_left_alone(server, archive):
    archive.path.parent.mkdir(parents=True)
    damaged = bytearray(CONTENT)
    damaged[1000] ^= 1
    archive.path.write_bytes(damaged)
    with pytest.raises(ganzoo.GanzooError) as caught:
        archive.fetch()
    for word in (str(archive.path), archive.sha256, hashlib.sha256(damaged).hexdigest(), "delete it"):
        assert word in str(caught.value)
    assert not server.requests
    assert archive.path.read_bytes() == damaged


def test_a_data_folder_that_cannot_be_written_is_named(archive, tmp_path, monkeypatch):
    (tmp_path / "data").write_text("a file where a folder should be")
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    with pytest.raises(ganzoo.GanzooError, match=r"cannot be written \(.*set GANZOO_DATA \(--data-dir\)"):
        archive.fetch()


def test_two_processes_may_fetch_at_once(server, archive):
    both = threading.Barrier(2)

    def together(handler):
        both.wait(timeout=60)  # neither is served before the other has asked
        whole(handler)

    server.answers = [together]
    code = f"from ganzoo_plugins.datasets._archives import Archive\nprint(len({archive!r}.fetch().read_bytes()))"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert archive.fetch().read_bytes() == CONTENT
    assert int(other.communicate(timeout=60)[0]) == len(CONTENT)
    assert len(server.requests) == 2
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/images.gz"]
