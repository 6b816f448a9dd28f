"""Fixtures of all tests: temporary folders for cache and data, and the real archives if they are on this machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All tests use temporary folders for the cache and the data, never those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("GANZOO_DATA", str(tmp_path_factory.mktemp("data")))
        patch.delenv("GANZOO_MIRROR", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _usual_signals() -> None:
    """SIGINT raises KeyboardInterrupt, SIGHUP ends a process.

    If a shell starts the tests in the background, SIGINT is ignored at first, and under nohup SIGHUP is.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):  # not on Windows
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """What a command sets for its process, such as GANZOO_OFFLINE, does not reach the next test."""
    before = {name: value for name, value in os.environ.items() if name.startswith("GANZOO_")}
    yield
    for name in [name for name in os.environ if name.startswith("GANZOO_") and name not in before]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _as_many_threads() -> Iterator[None]:
    """Fail a test that changes torch's number of threads: the results of later tests depend on it by rounding."""
    threads = _threads()
    yield
    assert threads in (None, _threads()), "this test changed torch's number of threads"


def _threads() -> int | None:
    """torch's number of threads; None if no test has imported torch yet, because the import is slow."""
    return sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder with the real archives, `MNIST/raw` and `FashionMNIST/raw`. It may be read-only."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GANZOO_TEST_DATA") or default)
    if not (folder / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").exists():
        pytest.skip(
            f"no archives in {folder}: set GANZOO_TEST_DATA to a folder that has MNIST/raw and FashionMNIST/raw"
        )
    return folder
