"""Downloads that die: what a killed process leaves is not taken for an archive, and the next process continues it."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_download import Server, files_below, status, whole

import ganzoo
from ganzoo.storage import download
from ganzoo_plugins.datasets._idx import archives_of
from ganzoo_plugins.datasets.torchvision_sets import CIFAR10
from ganzoo_plugins.extractors import inception

CONTENT = gzip.compress(random.Random(1).randbytes(2_000_000), mtime=0)
ARCHIVE = ganzoo.Archive("MNIST/raw", "images.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), ())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server = Server()
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GANZOO_MIRROR", server.address)
    yield server
    server.close()


def test_killed_half_way(server: Server) -> None:
    """SIGKILL leaves a hidden part that is no archive; the next process asks for the rest of it only."""
    begun, killed = threading.Event(), threading.Event()

    def slow(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[: len(CONTENT) // 2])
        handler.wfile.flush()
        begun.set()
        killed.wait(60)

    def rest(handler):
        start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        whole(handler, CONTENT[start:], 206, start)

    server.answers = [slow, rest]
    code = f"from ganzoo import Archive\n{ARCHIVE!r}.fetch()"
    victim = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert begun.wait(60)
    deadline = time.monotonic() + 30
    while not any(size >= len(CONTENT) // 2 for size in _sizes()) and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    killed.set()
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/.images.gz.lock", "MNIST/raw/.images.gz.part"]
    left = max(_sizes())
    assert left >= len(CONTENT) // 2
    assert ARCHIVE.fetch().read_bytes() == CONTENT
    ARCHIVE.check()
    assert server.requests[1:] == [("/MNIST/raw/images.gz", f"bytes={left}-")]
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/images.gz"]


def _sizes() -> list[int]:
    folder = ganzoo.data_dir()
    return [(folder / name).stat().st_size for name in files_below(folder)] if folder.is_dir() else []


def test_a_stopped_download_leaves_a_hidden_part_only(server: Server) -> None:
    """After Ctrl-C the next call continues."""

    def interrupt(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:1000])
        handler.wfile.flush()
        time.sleep(0.5)  # for the bytes to be written
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)

    server.answers = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        ARCHIVE.fetch()
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/.images.gz.part"]
    server.answers = [lambda handler: whole(handler, CONTENT)]
    assert ARCHIVE.fetch().read_bytes() == CONTENT
    assert files_below(ganzoo.data_dir()) == ["MNIST/raw/images.gz"]


def test_a_server_that_trickles_is_not_trusted_with_more_than_was_promised(server: Server) -> None:
    """An endless answer is cut off at the size that is known, whatever it says of itself."""

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        sent = 0
        try:
            while sent < 20 * len(CONTENT):
                sent += handler.wfile.write(b"\x1f\x8b" + bytes(100_000))
        except OSError:
            server.requests.append((f"cut off after {sent}", None))

    server.answers = [endless]
    with pytest.raises(ganzoo.GanzooError, match=f"more than the expected {len(CONTENT)} bytes came"):
        ARCHIVE.fetch()
    assert files_below(ganzoo.data_dir()) == []


@pytest.mark.parametrize("location", ["http://example.com/a", "//example.com/a", "ftp://127.0.0.1/a", "data:,x"])
def test_no_redirect_leads_where_we_would_not_have_gone(server: Server, location: str) -> None:
    server.answers = [status(302, Location=location)]
    with pytest.raises(ganzoo.GanzooError, match=r"is not allowed"):
        ARCHIVE.fetch()
    assert len(server.requests) == 1
    assert files_below(ganzoo.data_dir()) == []


def test_every_address_we_publish_is_https_and_every_file_has_a_sha256() -> None:
    archives = [archive for folder in ("MNIST", "FashionMNIST", "KMNIST") for archive in archives_of(folder, "train")]
    archives += [archive for folder in ("MNIST", "FashionMNIST", "KMNIST") for archive in archives_of(folder, "test")]
    for archive in (*archives, CIFAR10.archive, inception.archive()):
        assert archive.sources
        assert all(source.startswith("https://") for source in archive.sources)
        assert len(bytes.fromhex(archive.sha256)) == 32
        assert archive.size > 1000
    assert inception.archive().path == ganzoo.cache_dir() / "inception" / inception.URL.rpartition("/")[2]
    assert f"{inception.archive().sources[0]}/{inception.archive().name}" == inception.URL
    assert download.TRIES == 3
