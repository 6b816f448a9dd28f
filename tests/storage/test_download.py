"""Downloads from a real server on the loopback address, and every way in which they can go wrong."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ganzoo
from ganzoo.storage import download, https

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
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.01)
    # a proxy must not be asked for what is on this machine
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    yield server
    server.close()


@pytest.fixture
def archive() -> ganzoo.Archive:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return ganzoo.Archive("MNIST/raw", "images.gz", len(CONTENT), sha256, (), first_bytes=b"\x1f\x8b")


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
        (lambda handler: whole(handler, b"PK\3\4"), 1, r"what came begins with b'PK', not with b'\x1f\x8b'"),
        (status(302, Location="/loop"), 11, "infinite loop"),
        (status(302, Location="http://example.com/"), 1, "http://example.com is not allowed, only https is"),
        (
            status(302, Location="file:///etc/passwd"),
            1,
            "302 Found - Redirection to url 'file:///etc/passwd' is not allowed",
        ),
        (lambda handler: handler.wfile.write(b"nonsense"), 3, "3 times"),
    ],
    ids=["truncated", "wrong-hash", "too-long", "404", "500", "html", "zip", "loop", "to-http", "to-file", "nonsense"],
)
def test_a_failed_download_leaves_no_archive_and_says_what_to_do(server, archive, answer, requests, reason):
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
    # what a later call can continue is kept under a hidden name
    assert files_below(ganzoo.data_dir()) == (["MNIST/raw/.images.gz.part"] if answer is half else [])


def test_a_silent_server_is_not_waited_for(server, archive, monkeypatch):
    monkeypatch.setattr(https, "TIMEOUT_SECONDS", 0.3)
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
    for word in (str(archive.path), archive.sha256, hashlib.sha256(damaged).hexdigest(), "move it"):
        assert word in str(caught.value)
    assert not server.requests
    assert archive.path.read_bytes() == damaged


def test_a_long_download_says_how_far_it_is(server, archive, monkeypatch, capsys):
    monkeypatch.setattr(https.Received, "FIRST", 0.0)
    server.answers.append(whole)
    archive.fetch()
    lines = capsys.readouterr().err.splitlines()
    assert any(re.fullmatch(r"images\.gz: 0\.\d of 0\.3 MB, about \d+ s left\.", line) for line in lines), lines


IDX_OF_THREE = bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 7, 8, 9])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            gzip.compress(CONTENT, mtime=0),
            "is not the published file: it is packed by gzip twice, and `gunzip` unpacks it once",
        ),
        (gzip.compress(IDX_OF_THREE, mtime=0), "was cut off or is another file than the published one: it has"),
        (gzip.decompress(CONTENT) + bytes(999), "is not the published file: it is not packed by gzip"),
        (IDX_OF_THREE, "is not the published file: it is not packed by gzip"),
        (b"<html>log in", "is a web page and not the published file"),
        (CONTENT[:-9], f"was cut off or is another file than the published one: it has {len(CONTENT) - 9} bytes"),
        (CONTENT[:-1] + b"?", "is damaged"),
        (b"", "is not the published file: it is not packed by gzip"),
    ],
    ids=[
        "packed twice",
        "another file, packed",
        "not packed, longer",
        "IDX",
        "web page",
        "cut off",
        "damaged",
        "empty",
    ],
)
def test_what_lies_there_is_named_and_never_to_be_deleted(server, archive, content, words):
    archive = dataclasses.replace(archive, first_bytes=download.GZIP)
    archive.path.parent.mkdir(parents=True)
    archive.path.write_bytes(content)
    with pytest.raises(ganzoo.GanzooError) as refused:
        archive.fetch()
    assert f"{archive.path} {words}" in str(refused.value)
    assert "delete" not in str(refused.value)
    assert archive.path.read_bytes() == content


def test_a_data_folder_that_cannot_be_written_is_named(archive, tmp_path, monkeypatch):
    (tmp_path / "data").write_text("a file where a folder should be")
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    with pytest.raises(ganzoo.GanzooError, match=r"cannot be written \(.*set GANZOO_DATA \(--data-dir\)"):
        archive.fetch()


def test_of_two_processes_one_downloads_and_the_other_waits(server, archive):
    begun, go_on = threading.Event(), threading.Event()

    def slow(handler):
        begun.set()
        go_on.wait(timeout=60)
        whole(handler)

    server.answers = [slow]
    code = f"from ganzoo import Archive\nprint(len({archive!r}.fetch().read_bytes()))"
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert begun.wait(60)
    waiting = threading.Thread(target=archive.fetch)  # so does another thread
    waiting.start()
    time.sleep(1)
    assert not archive.path.exists()
    go_on.set()
    outputs = [process.communicate(timeout=60) for process in processes]
    waiting.join(60)
    assert [int(stdout) for stdout, _ in outputs] == [len(CONTENT)] * 2
    assert len(server.requests) == 1
    assert sum("Fetching MNIST/raw/images.gz (0.3 MB)." in stderr for _, stderr in outputs) <= 1
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/images.gz"]


def test_the_one_that_waits_says_so_and_takes_over_where_the_first_fails(server, archive, capsys):
    begun, go_on = threading.Event(), threading.Event()

    def slow_failure(handler):
        begun.set()
        go_on.wait(timeout=60)
        status(404)(handler)

    server.answers = [slow_failure, whole]
    failures = []

    def fail() -> None:
        with pytest.raises(ganzoo.GanzooError) as caught:
            archive.fetch()
        failures.append(str(caught.value))

    first = threading.Thread(target=fail)
    first.start()
    assert begun.wait(60)
    second = threading.Thread(target=archive.fetch)
    second.start()
    waited, deadline = "", time.monotonic() + 50
    while "Waiting for another process that fetches MNIST/raw/images.gz." not in waited and time.monotonic() < deadline:
        time.sleep(0.01)  # the other threads need the interpreter
        waited += capsys.readouterr().err
    assert "Waiting for another process that fetches MNIST/raw/images.gz." in waited
    go_on.set()
    first.join(60)
    second.join(60)
    assert "404" in failures[0]
    assert archive.path.read_bytes() == CONTENT
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/images.gz"]


def test_where_no_lock_is_possible_two_download_at_once(server, archive, monkeypatch):
    def no_locks(*args, **more):
        raise OSError("no locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    both = threading.Barrier(2)

    def together(handler):
        both.wait(timeout=60)  # neither is served before the other has asked
        whole(handler)

    server.answers = [together]
    other = threading.Thread(target=archive.fetch)
    other.start()
    assert archive.fetch().read_bytes() == CONTENT
    other.join(60)
    assert len(server.requests) == 2
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/images.gz"]


# --- partial files ---


def partial_file(archive, content: bytes) -> Path:
    """What an earlier process left."""
    archive.path.parent.mkdir(parents=True)
    partial = archive.path.with_name(f".{archive.path.name}.part")
    partial.write_bytes(content)
    return partial


def test_a_download_that_broke_off_is_continued_by_the_next_call(server, archive):
    server.answers = [half]
    with pytest.raises(ganzoo.GanzooError, match="the connection ended"):
        archive.fetch()
    assert not archive.path.exists()
    server.requests.clear()
    server.answers = [rest]
    assert archive.fetch().read_bytes() == CONTENT
    assert server.requests == [(PATH, f"bytes={len(CONTENT) // 2}-")]
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/images.gz"]
    archive.fetch()
    assert len(server.requests) == 1


def test_a_server_that_cannot_continue_sends_all_of_it(server, archive):
    partial_file(archive, CONTENT[:4000])
    server.answers = [whole]
    assert archive.fetch().read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["bytes=4000-"]


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"\0", b"\0" * len(CONTENT)], ids=["whole", "longer", "wrong"])
def test_a_partial_file_of_full_size_is_checked_first(server, archive, left):
    partial_file(archive, left)
    server.answers = [whole]
    assert archive.fetch().read_bytes() == CONTENT
    assert server.requests == ([] if left == CONTENT else [(PATH, None)])
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/images.gz"]


def test_wrong_bytes_of_an_earlier_process_are_thrown_away(server, archive):
    """The digest is wrong, so that all of it is downloaded once more."""
    partial_file(archive, b"\0" * 4000)
    server.answers = [rest, whole]
    assert archive.fetch().read_bytes() == CONTENT
    assert server.requests == [(PATH, "bytes=4000-"), (PATH, None)]


def test_a_server_that_has_lost_the_file_costs_no_partial_file(server, archive):
    partial = partial_file(archive, CONTENT[:4000])
    server.answers = [status(404)]
    with pytest.raises(ganzoo.GanzooError, match="404"):
        archive.fetch()
    assert partial.read_bytes() == CONTENT[:4000]


def test_a_mirror_in_a_folder_does_not_continue_a_partial_file(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GANZOO_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror/MNIST/raw").mkdir(parents=True)
    (tmp_path / "mirror/MNIST/raw/images.gz").write_bytes(CONTENT)
    partial_file(archive, b"\0" * 4000)
    assert archive.fetch().read_bytes() == CONTENT


# --- files of other people's plugins ---


def test_any_file_can_be_fetched_and_into_another_folder(server, tmp_path, monkeypatch):
    """As a plugin does it that is not ours: no gzip, its own addresses, a folder of its own."""
    monkeypatch.delenv("GANZOO_MIRROR")
    content = b"<svg>" + bytes(range(256)) * 40
    weights = ganzoo.Archive(
        folder="my-extractor",
        name="weights.pth",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        sources=(f"{server.address}/v1",),
        base=tmp_path / "cache",
        advice="use the digits dataset",
    )
    server.answers = [status(404)]
    with pytest.raises(ganzoo.GanzooError) as caught:
        weights.fetch()
    message = str(caught.value)
    assert message.endswith(
        f"put it into {tmp_path / 'cache/my-extractor'} yourself, or set GANZOO_MIRROR to an address or a folder that "
        "has my-extractor/weights.pth, or use the digits dataset."
    )
    assert f"{server.address}/v1/weights.pth: 404 Not Found" in message
    server.answers = [lambda handler: whole(handler, b"<!DOCTYPE html><title>Log in</title>")]
    with pytest.raises(ganzoo.GanzooError, match="a web page came instead"):
        weights.fetch()
    server.answers = [lambda handler: whole(handler, content)]
    assert weights.fetch() == tmp_path / "cache/my-extractor/weights.pth"
    assert weights.path.read_bytes() == content
    assert not ganzoo.data_dir().exists()
    weights.path.unlink()
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    with pytest.raises(ganzoo.GanzooError, match=r"nothing is fetched here .* or use the digits dataset"):
        weights.fetch()


def test_to_know_an_archive_is_not_to_import_torch():
    code = "import sys, ganzoo; ganzoo.Archive; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
