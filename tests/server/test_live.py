"""ganzoo serve: the page follows the files below a folder, reads nothing outside of it, and ends on Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import ganzoo

from ganzoo.server import running
from ganzoo.server.live import LiveReport
from ganzoo.server.running import guarded
from ganzoo.server.watch import Watch

pytest.importorskip("starlette", reason="needs the extra `serve`")
Serve = Callable[[Any], str]
Ask = Callable[..., tuple[int, str]]


def _run(path: Path) -> Path:
    """A directory that looks like a run."""
    (path / "samples").mkdir(parents=True)
    for name in ("recipe.json", "environment.json", "stats.jsonl"):
        (path / name).write_text("{}\n")
    return path


class _Report:
    """Stands in for ganzoo.reports.page: its data are the paths, and how often they were read."""

    def __init__(self) -> None:
        self.reads = 0

    def page_data(self, paths: Sequence[Path]) -> dict[str, Any]:
        self.reads += 1
        return {"paths": [str(path) for path in paths], "reads": self.reads}


def _live(root: Path, report: _Report, notes: list[str]) -> LiveReport:
    def render(data: Any, live: bool) -> str:
        return f"<!doctype html><p>{json.dumps(data)} {live}</p>"

    return LiveReport(root, report.page_data, render, lambda page, live: "default-src 'self'", notes.append)


def _served(root: Path, serve: Serve) -> tuple[str, _Report, list[str], LiveReport]:
    report, notes = _Report(), list[str]()
    live = _live(root, report, notes)
    return serve(guarded(live.starlette(), "127.0.0.1", ())), report, notes, live


def _data(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address + "data.json", timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


class _Events(threading.Thread):
    """The versions that a stream of events sends, each with the moment at which it came."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.answer = urllib.request.urlopen(address + "events", timeout=30)
        self.seen: list[tuple[int, float]] = []
        self.start()

    def run(self) -> None:
        for line in self.answer:
            if line.startswith(b"data:"):
                self.seen.append((json.loads(line[5:])["version"], time.monotonic()))

    def wait_for(self, count: int) -> tuple[int, float]:
        """The event of this number, from 1."""
        end = time.monotonic() + 15
        while len(self.seen) < count:
            assert time.monotonic() < end, "no event came"
            time.sleep(0.01)
        return self.seen[count - 1]


# --- the page and its data ---


def test_page_and_data(tmp_path: Path, serve: Serve, ask: Ask) -> None:
    _run(tmp_path / "a")
    address, report, _, _ = _served(tmp_path, serve)
    status, page = ask(address)
    assert status == 200
    assert page.endswith(f"{json.dumps({'paths': [str(tmp_path)], 'reads': 1})} True</p>")
    assert "content-security-policy: default-src 'self'\r\n" in page
    assert _data(address) == {"paths": [str(tmp_path)], "reads": 1}
    ask(address, "/events", "HEAD")
    assert report.reads == 1  # nothing has changed
    (tmp_path / "a" / "stats.jsonl").write_text("{}\n{}\n")
    assert _data(address)["reads"] == 2


def test_a_folder_without_runs_yet(tmp_path: Path, serve: Serve, ask: Ask) -> None:
    address, report, _, _ = _served(tmp_path, serve)
    status, page = ask(address)
    assert status == 200
    assert "There is no run here yet" in page
    assert ask(address, "/data.json")[0] == 404
    assert report.reads == 0
    _run(tmp_path / "deep" / "down" / "a")
    assert _data(address)["paths"] == [str(tmp_path)]


@pytest.mark.parametrize("path", ["/a/recipe.json", "/..", "/%2e%2e/secret", "/a/../../secret", "/%00", "//etc/passwd"])
def test_no_file_is_served(tmp_path: Path, serve: Serve, ask: Ask, path: str) -> None:
    root = tmp_path / "root"
    _run(root / "a")
    (tmp_path / "secret").write_text("root:")
    address, *_ = _served(root, serve)
    status, answer = ask(address, path)
    assert status == 404
    assert "root:" not in answer
    assert ask(address, "/data.json", Host="evil.example")[0] == 400
    assert ask(address, "/data.json", "POST")[0] == 405
    assert ask(address, "/events", Origin="https://evil.example")[0] == 403


# --- following ---


def test_events_come_within_two_seconds(tmp_path: Path, serve: Serve) -> None:
    run = _run(tmp_path / "a")
    address, report, _, live = _served(tmp_path, serve)
    events = _Events(address)
    first, _ = events.wait_for(1)
    changes: list[Callable[[], object]] = [
        lambda: (run / "stats.jsonl").write_text("{}\n{}\n"),
        lambda: (run / "samples" / "000000100.png").write_bytes(b"x"),
        lambda: (run / "scores.jsonl").write_text("{}\n"),
        lambda: _run(tmp_path / "b"),
        lambda: shutil.rmtree(tmp_path / "b"),
    ]
    for number, change in enumerate(changes, start=2):
        began = time.monotonic()
        change()
        version, came = events.wait_for(number)
        assert version > first
        assert came - began < 2
        first = version
        time.sleep(0.6)  # what was written in two moments, such as a new run, may be two events
        while len(events.seen) > number:
            events.seen.pop()
    assert report.reads == 0  # nothing is read before the page asks for it
    live.stop()
    events.join(5)
    assert not events.is_alive()


def test_slow_readings_are_not_asked_for_often(tmp_path: Path) -> None:
    _run(tmp_path / "a")
    report = _Report()
    live = _live(tmp_path, report, [])
    live.page_data = lambda paths: time.sleep(0.2) or report.page_data(paths)  # type: ignore[func-returns-value]
    assert live._read() == {"paths": [str(tmp_path)], "reads": 1}
    assert live._next_reading <= time.monotonic()  # the first reading reads everything: later ones are faster
    live.version += 1
    assert live._read() == {"paths": [str(tmp_path)], "reads": 2}
    assert live._next_reading - time.monotonic() > 0.3


def test_a_look_reads_no_file_and_follows_no_folder(tmp_path: Path) -> None:
    run = _run(tmp_path / "a")
    for name in ("generators", "checkpoints/000100"):
        (run / name).mkdir(parents=True)
    watch = Watch(tmp_path)
    before = watch.look()
    (run / "generators" / "000000100.safetensors").write_bytes(b"x")  # is not shown
    (run / "lock").write_text("x")
    assert watch.look().state == before.state
    os.chmod(run / "recipe.json", 0)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert watch.look().runs == [run]
    assert not watch.look().refused


# --- links ---


@pytest.mark.parametrize("place", ["stats.jsonl", "samples/000000100.png", "scores.jsonl", "samples"])
def test_a_run_with_a_link_that_leads_out_is_not_shown(tmp_path: Path, serve: Serve, place: str) -> None:
    root, outside = tmp_path / "root", _run(tmp_path / "outside")
    good, bad = _run(root / "good"), _run(root / "bad")
    target = bad / place
    if target.is_dir():
        target.rmdir()
    target.unlink(missing_ok=True)
    target.symlink_to(outside / "samples" if place == "samples" else outside / "stats.jsonl")
    address, _, notes, _ = _served(root, serve)
    assert _data(address)["paths"] == [str(good)]
    assert notes == [f"{bad} is not shown: a link in it leads out of {root}."]
    target.unlink()
    assert _data(address)["paths"] == [str(root)]


def test_links_inside_of_the_folder_and_links_to_folders(tmp_path: Path, serve: Serve) -> None:
    root = tmp_path / "root"
    run = _run(root / "a")
    (run / "scores.jsonl").symlink_to(run / "stats.jsonl")
    _run(tmp_path / "outside" / "b")
    (root / "c").symlink_to(tmp_path / "outside" / "b")
    (tmp_path / "name").symlink_to(root)
    address, *_ = _served(tmp_path / "name", serve)  # the folder itself may be named by a link
    assert _data(address)["paths"] == [str(root)]
    assert Watch(root).look().runs == [run]


# --- the command ---


def test_wrong_folders_and_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = ganzoo("serve", tmp_path / "nowhere")
    assert done.exit_code == 2
    assert done.output == f"Error: There is no directory {tmp_path / 'nowhere'}: name a run or a folder of runs.\n"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = ganzoo("serve", tmp_path, "--port", taken.getsockname()[1])
    assert done.exit_code == 2
    assert "is taken: name another by --port" in done.output
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda name: None)
    done = ganzoo("serve", tmp_path)
    assert done.exit_code == 1
    assert "pip install 'torch-ganzoo[serve]'" in done.output


def test_the_command_follows_a_run_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    """The real command and the real report; Ctrl-C while a page listens."""
    trained = ganzoo("train", "mlp-vanilla", "digits:size=8", "--steps", 4, "-q", "--out", tmp_path / "a")
    assert trained.exit_code == 0, trained.output
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import ganzoo.cli; ganzoo.cli.main()"
    )
    command = [sys.executable, "-c", code, "serve", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        address = server.stdout.readline().strip()
        assert len(_data(address)["runs"]) == 1
        events = _Events(address)
        events.wait_for(1)
        with urllib.request.urlopen(address) as page:
            policy = page.headers["Content-Security-Policy"]
        assert "connect-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        longer = ganzoo("resume", tmp_path / "a", "--steps", 8, "-q")
        assert longer.exit_code == 0, longer.output
        events.wait_for(2)
        assert _data(address)["runs"][0]["step"] == 8
        server.send_signal(signal.SIGINT)
        assert server.wait(15) == 130
        messages = server.stderr.read()
    assert messages == "The report follows the runs at this address. Ctrl-C ends it.\nStopped by Ctrl-C.\n"


def test_the_page_in_a_browser(browser: Any, tmp_path: Path, serve: Serve) -> None:
    from ganzoo.reports.page import content_security_policy, page_data, render

    trained = ganzoo("train", "mlp-vanilla", "digits:size=8", "--steps", 4, "-q", "--out", tmp_path / "a")
    assert trained.exit_code == 0, trained.output
    live = LiveReport(tmp_path, page_data, render, content_security_policy, print)
    page = browser.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(serve(guarded(live.starlette(), "127.0.0.1", ())))
    page.wait_for_selector(".live")
    # a message for every update of the page
    page.evaluate("""() => { const update = window.ganzooUpdate; window.steps = [];
        window.ganzooUpdate = data => { update(data); window.steps.push(data.runs[0].step); }; }""")
    longer = ganzoo("resume", tmp_path / "a", "--steps", 8, "-q")
    assert longer.exit_code == 0, longer.output
    page.wait_for_function("() => window.steps.includes(8)", timeout=20_000)
    assert errors == []
    page.close()
    live.stop()
