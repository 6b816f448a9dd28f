"""SIGTERM, SIGHUP and Ctrl-C at every stage, to the process or to its group: the exit status, and all is saved.

Each case is a process of its own that runs the command line; it is forked from one that has imported everything.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import kills
import pytest
import slow_parts

import ganzoo_plugins.datasets.digits
import ganzoo_plugins.datasets.torchvision_sets
import ganzoo_plugins.losses.nonsaturating
import ganzoo_plugins.optimizers.adam  # noqa: F401
from ganzoo.cli import cli
from ganzoo.storage import checkpoints
from ganzoo.training.train import resume

#: seconds, enough for a busy machine; how long each process took is measured and printed
PATIENCE = 60.0
DAWDLING = f"{slow_parts.__file__}:Dawdling"
#: place in the code -> seconds spent there each time, and how often it is passed before the signal is sent
PLACES = {
    "training": (0.05, 16),
    "scoring": (0.3, 1),
    "saving": (0.05, 6),
    "sampling": (0.05, 3),
    "evaluating": (0.3, 1),
    "downloading": (0.0, 1),
}
IN_TRAINING = ("training", "scoring", "saving")
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
seconds: list[float] = []


def arguments(place: str, folder: Path, reference: Path) -> list[str]:
    out = folder / "run"
    return {
        "sampling": ["sample", str(reference), "-n", "100000", "-o", str(folder / "fakes.npy")],
        "evaluating": ["evaluate", str(reference), "--samples", "4000"],
        "downloading": ["train", DAWDLING, "mnist", "--steps", "4", "--out", str(out)],
    }.get(place, ["train", DAWDLING, "digits:size=8", "--out", str(out)])


def victim(argv: list[str], place: str, folder: Path, pause: float, companion: bool = False, **more: str) -> int:
    """The process number of a child that runs `ganzoo argv`, in a process group of its own."""

    def command() -> None:
        os.setsid()
        sys.stdout = sys.stderr = open(folder / "output.txt", "w", buffering=1)  # noqa: SIM115
        os.dup2(sys.stdout.fileno(), 1)
        os.dup2(sys.stdout.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as a shell starts it
        os.environ |= {"GANZOO_TEST_DAWDLE": "scoring" if place == "evaluating" else place}
        os.environ |= {"GANZOO_TEST_MARK": str(folder / "mark"), "GANZOO_TEST_SECONDS": str(pause), **more}
        if companion:
            subprocess.Popen(["sleep", "600"])
        if place == "downloading":
            os.environ |= {"GANZOO_DATA": str(folder / "data"), "GANZOO_MIRROR": (folder / "mirror").read_text()}
        if place == "saving":
            os.fsync = slow_parts.sync
        try:
            cli(argv, prog_name="ganzoo")
        except SystemExit as end:
            threading._shutdown()  # as the interpreter does at its end: wait for threads that are not daemons
            os._exit(int(end.code or 0))

    return kills.forked(command)


def reached(mark: Path, times: int, pid: int) -> None:
    """Wait until a place was passed so many times."""
    deadline = time.monotonic() + PATIENCE
    while not (mark.exists() and mark.stat().st_size >= times):
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), (mark.parent / "output.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(pid: int) -> tuple[int, float]:
    """The exit status of a child, and how long it took to end."""
    since = time.monotonic()
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        assert time.monotonic() < since + PATIENCE
        time.sleep(0.005)
    return kills.wait(pid), time.monotonic() - since


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("reference")
    assert ended(victim(arguments("none", folder, folder), "none", folder, 0))[0] == 0
    yield folder / "run"
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        median, most = statistics.median(seconds), max(seconds)
        print(f"\n{len(seconds)} signals: ended after {median:.2f} s (median), {most:.2f} s at most")  # noqa: T201


@contextmanager
def mirror(folder: Path) -> Iterator[None]:
    """A mirror that sends an archive byte by byte; its address is in `folder`/mirror."""
    listening = socket.create_server(("127.0.0.1", 0))
    (folder / "mirror").write_text(f"http://127.0.0.1:{listening.getsockname()[1]}")

    def serve() -> None:
        connection, _ = listening.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9912422\r\n\r\n")
        with suppress(OSError):  # the client has gone
            while True:
                connection.sendall(b"\x1f")
                with open(folder / "mark", "ab") as file:
                    file.write(b".")
                time.sleep(0.05)

    server = kills.forked(serve)
    try:
        yield
    finally:
        listening.close()
        os.kill(server, signal.SIGKILL)
        kills.wait(server)


@pytest.mark.parametrize("to", ["process", "group"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal(place: str, number: signal.Signals, to: str, reference: Path, tmp_path: Path) -> None:
    before = kills.left(reference)
    pause, times = PLACES[place]
    with mirror(tmp_path) if place == "downloading" else nullcontext():
        pid = victim(arguments(place, tmp_path, reference), place, tmp_path, pause, companion=to == "group")
        reached(tmp_path / "mark", times, pid)
        os.kill(pid, number) if to == "process" else os.killpg(pid, number)
        status, took = ended(pid)
    seconds.append(took)
    output = (tmp_path / "output.txt").read_text()
    assert status == SIGNALS[number], output
    assert "Traceback" not in output
    if place in IN_TRAINING:
        run = tmp_path / "run"
        words = "Ctrl-C" if number == signal.SIGINT else number.name
        at_once = "Stopping after this step and saving; Ctrl-C again stops at once.\n"
        assert output.count(at_once) == (number == signal.SIGINT)
        hint = f"everything is saved. Continue with: ganzoo resume {shlex.quote(str(run))}"
        assert re.search(rf"^Stopped by {words} after step \d+; {re.escape(hint)}$", output.rstrip(), re.M), output
        saved = checkpoints.load_latest(run / "checkpoints")
        assert saved is not None
        assert 0 < saved.meta["step"] < 24
        assert not (run / "lock").exists()
        assert kills.wait(kills.forked(lambda: resume(run, kills.ZOO, note=lambda text: None))) == 0
        left = kills.left(run)
        # the generator that the signal has saved can be sampled from, and stays
        extra = left["files"].keys() - before["files"].keys()
        assert extra <= {f"generators/{saved.meta['images']:09d}.safetensors"}
        assert {**left, "files": {n: left["files"][n] for n in left["files"] if n not in extra}} == before
    else:
        words = "Stopped by Ctrl-C." if number == signal.SIGINT else f"Stopped by {number.name}."
        assert output.rstrip().endswith(words), output
        assert "Error" not in output
        assert kills.left(reference) == before
        halves = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in OURS]
        halves = [path for path in halves if path.suffix != ".part"]  # the next download continues from it
        assert halves == []


#: files of these tests
OURS = ("mark", "mirror", "output.txt")


def test_a_terminal_that_is_closed(reference: Path, tmp_path: Path) -> None:
    """Everything is saved and the exit status is 129, though no message can be written any more."""
    own, terminal = os.openpty()

    def command() -> None:
        os.setsid()
        os.close(own)
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)  # it is now the terminal of this session
        for descriptor in range(3):
            os.dup2(terminal, descriptor)
        os.close(terminal)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.environ |= {"GANZOO_TEST_DAWDLE": "training", "GANZOO_TEST_SECONDS": "0.05"}
        os.environ |= {"GANZOO_TEST_MARK": str(tmp_path / "mark"), "TERM": "xterm"}
        try:
            cli([*arguments("training", tmp_path, reference), "--verbose"], prog_name="ganzoo")
        except SystemExit as end:
            threading._shutdown()
            os._exit(int(end.code or 0))

    pid = kills.forked(command)
    os.close(terminal)
    reached(tmp_path / "mark", 16, pid)
    os.close(own)
    status, _ = ended(pid)
    assert status == 129
    run = tmp_path / "run"
    saved = checkpoints.load_latest(run / "checkpoints")
    assert saved is not None
    assert 4 < saved.meta["step"] < 24
    assert not (run / "lock").exists()
    assert kills.wait(kills.forked(lambda: resume(run, kills.ZOO, note=lambda text: None))) == 0
    assert kills.left(run) == kills.left(reference)


def test_under_nohup_sighup_stays_ignored(reference: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the child inherits it
    try:
        pid = victim(arguments("training", tmp_path, reference), "training", tmp_path, 0.01)
    finally:
        signal.signal(signal.SIGHUP, before)
    reached(tmp_path / "mark", 16, pid)
    os.kill(pid, signal.SIGHUP)
    assert ended(pid)[0] == 0, (tmp_path / "output.txt").read_text()
    assert kills.left(tmp_path / "run") == kills.left(reference)


@pytest.mark.parametrize(("place", "hangs"), [("training", 16), ("saving", 6)])
def test_a_second_ctrl_c_leaves_at_once(place: str, hangs: int, reference: Path, tmp_path: Path) -> None:
    """A step or the disk hangs: a half-written checkpoint is ignored, and the one before is whole."""
    pid = victim(arguments(place, tmp_path, reference), place, tmp_path, 0.01, GANZOO_TEST_HANGS=str(hangs))
    reached(tmp_path / "mark", hangs, pid)
    os.kill(pid, signal.SIGINT)
    time.sleep(0.5)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)  # the first one waits, and says so at once
    assert (
        (tmp_path / "output.txt")
        .read_text()
        .endswith("Stopping after this step and saving; Ctrl-C again stops at once.\n")
    )
    os.kill(pid, signal.SIGINT)
    status, took = ended(pid)
    assert status == 130, (tmp_path / "output.txt").read_text()
    assert took < 20
    run = tmp_path / "run"
    saved = checkpoints.load_latest(run / "checkpoints")
    assert saved is not None
    assert (saved.meta["step"], saved.notes) == (4, [])
    output = (tmp_path / "output.txt").read_text()
    words = "Stopped at once by Ctrl-C; step 4 is saved, the steps after it are not. Continue with: ganzoo resume "
    assert output.splitlines()[-1] == words + shlex.quote(str(run))
    assert kills.wait(kills.forked(lambda: resume(run, kills.ZOO, note=lambda text: None))) == 0
    assert kills.left(run) == kills.left(reference)


# --- several ranks ---


def pair(folder: Path) -> list[int]:
    """The process numbers of two ranks that train one run, folder/run, each in a folder of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ranks = []
    for rank in range(2):
        own = folder / str(rank)
        own.mkdir()
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
        argv = ["train", DAWDLING, "digits:size=8", "--out", str(folder / "run"), "--checkpoint-every", "2 steps"]
        ranks.append(victim(argv, "training", own, 0.05, **address, LOCAL_RANK=str(rank)))
    return ranks


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_them_all_at_the_same_step(rank: int, tmp_path: Path) -> None:
    pids = pair(tmp_path)
    reached(tmp_path / "1" / "mark", 16, pids[1])
    os.kill(pids[rank], signal.SIGTERM)
    ends = [ended(pid) for pid in pids]
    outputs = [(tmp_path / str(index) / "output.txt").read_text() for index in range(2)]
    assert [status for status, _ in ends] == [143, 143], outputs
    assert not any("Traceback" in output for output in outputs), outputs
    saved = checkpoints.load_latest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    # once, by the process that writes
    assert [f"Stopped by SIGTERM after step {saved.meta['step']};" in output for output in outputs] == [True, False]

    def alone() -> None:
        notes: list[str] = []
        resume(tmp_path / "run", kills.ZOO, note=notes.append)
        assert [note for note in notes if "another number of processes (2 then, 1 now)" in note], notes

    assert kills.wait(kills.forked(alone)) == 0
    saved = checkpoints.load_latest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    assert saved.meta["step"] == 24


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_other(rank: int, tmp_path: Path) -> None:
    pids = pair(tmp_path)
    reached(tmp_path / "1" / "mark", 16, pids[1])
    os.kill(pids[rank], signal.SIGKILL)
    assert kills.wait(pids[rank]) == -signal.SIGKILL
    status, took = ended(pids[1 - rank])
    output = (tmp_path / str(1 - rank) / "output.txt").read_text()
    assert (status, "Traceback" in output) == (1, False), output
    assert "Another process of this training has ended" in output
    assert took < 30
    saved = checkpoints.load_latest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    assert saved.notes == []
    assert kills.wait(kills.forked(lambda: resume(tmp_path / "run", kills.ZOO, note=lambda text: None))) == 0
