"""Checks of a launcher: it runs small jobs, which crash, hang and are stopped."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.launcher import EndedJob, Job, Launcher, LaunchRequest
from ganzoo.testing.kit import ExaminedPart, Skipped, require

#: seconds that a small job may take, on a busy machine, and until a launcher has ended one that hangs
_LONG = 120.0
_WRITES = "import sys, os; print('hello'); open(sys.argv[1] + '/own/a.txt', 'w').write(os.environ['GANZOO_KIT'])"
_SLEEPS = "import sys, os, time; open(sys.argv[1] + '/own/pid', 'w').write(str(os.getpid())); time.sleep(10**6)"


@contextmanager
def _opened(part: ExaminedPart, jobs: int = 4) -> Iterator[tuple[Launcher, Path]]:
    """A new launcher that is open, and its folder. Raises Skipped where it cannot run anything here."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as text:
        folder = Path(text).resolve()
        (folder / "own").mkdir()
        launcher: Launcher = part.build()
        try:
            try:
                threads = launcher.open(LaunchRequest(jobs, "cpu", folder, 1, jobs, lambda text: None))
            except GanzooError as error:
                raise Skipped(str(error)) from error
            require(isinstance(threads, int) and threads >= 1, f"`open` returns {threads!r}, not a number of threads.")
            yield launcher, folder
        finally:
            launcher.close()


def _job(folder: Path, name: str, code: str, **fields: Any) -> Job:
    return Job(name, ("-c", code, "{folder}"), folder, ("own",), f"{name}.log", **fields)


def _start(launcher: Launcher, *jobs: Job) -> list[EndedJob]:
    """Start jobs, each when the launcher is ready; returns those that have ended in the meantime."""
    found: list[EndedJob] = []
    for job in jobs:

        def ready() -> bool:
            found.extend(launcher.ended())
            return launcher.ready()

        _until(ready, "`ready` stays False, and nothing more can be started.")
        launcher.start(job)
    return found


def _until(condition: Callable[[], bool], problem: str) -> None:
    """Wait until a condition holds. Raises Failed with this message after a long time."""
    deadline = time.monotonic() + _LONG
    while not condition():
        require(time.monotonic() < deadline, problem)
        time.sleep(0.02)


def _until_exists(file: Path, launcher: Launcher, found: list[EndedJob]) -> None:
    """Wait for a file that a job writes. `ended` is called all the time, as a benchmark does."""

    def exists() -> bool:
        found.extend(launcher.ended())
        return file.exists()

    _until(exists, "A job does not start.")


def _all_ended(launcher: Launcher, jobs: int, found: list[EndedJob]) -> dict[str, EndedJob]:
    """Wait until so many jobs have ended, and some more; returns them by name."""

    def enough() -> bool:
        found.extend(launcher.ended())
        return len(found) >= jobs

    _until(enough, f"Of {jobs} jobs that end, `ended` returned {len(found)} in {_LONG:g} seconds.")
    time.sleep(0.2)
    found.extend(launcher.ended())
    names = [ended.name for ended in found]
    require(len(names) == len(set(names)), f"`ended` returns a job more than once: {', '.join(sorted(names))}.")
    return {ended.name: ended for ended in found}


def runs_a_job(part: ExaminedPart) -> None:
    """A job gets its environment; its output is in its log and its files in its folder; `ended` returns it once."""
    with _opened(part) as (launcher, folder):
        job = _job(folder, "writes", _WRITES, environment={"GANZOO_KIT": "here"})
        ended = _all_ended(launcher, 1, _start(launcher, job))
        require(set(ended) == {"writes"}, f"`ended` returns {', '.join(ended)} for the job 'writes'.")
        log = folder / "writes.log"
        text = log.read_text() if log.is_file() else ""
        require(ended["writes"].exit_code == 0, f"A job that succeeds ends with {ended['writes']}: {text}")
        require("hello" in text, f"The output of a job is not in its log, which has {text!r}.")
        file = folder / "own" / "a.txt"
        require(file.is_file(), "A file that a job has written is not in its folder.")
        require(file.read_text() == "here", "A job does not get the variables of its environment.")


def a_crash_costs_no_other(part: ExaminedPart) -> None:
    """A job that fails and one that is killed are reported as such, and the job beside them succeeds."""
    with _opened(part) as (launcher, folder):
        codes = {"fails": "raise SystemExit(3)", "killed": "import os; os.kill(os.getpid(), 9)", "good": "pass"}
        jobs = [_job(folder, name, code) for name, code in codes.items()]
        ended = _all_ended(launcher, 3, _start(launcher, *jobs))
        found = {name: ended[name].exit_code for name in codes if name in ended}
        require(found.get("fails") == 3, f"A job with exit code 3 is reported with {found.get('fails')}.")
        require(found.get("good") == 0, f"The job beside two that crash is reported with {found.get('good')}.")
        killed = found.get("killed")
        require(killed in (-9, None), f"A job that is killed by SIGKILL is reported with {killed}, not with -9.")


def keeps_to_the_number_of_jobs(part: ExaminedPart) -> None:
    """With jobs=1, `ready` is False while a job is running, and True again when it has ended."""
    with _opened(part, jobs=1) as (launcher, folder):
        require(launcher.ready(), "`ready` is False although nothing is running.")
        _start(launcher, _job(folder, "sleeps", _SLEEPS))
        require(not launcher.ready(), "With jobs=1, `ready` is True while a job is running.")
        _until_exists(folder / "own" / "pid", launcher, [])
        launcher.stop("sleeps")
        _all_ended(launcher, 1, [])
        require(launcher.ready(), "`ready` stays False when its only job has ended.")


def stops_one_job(part: ExaminedPart) -> None:
    """`stop` sends SIGTERM to one worker, which may save before it ends, and to no other."""
    saves = (
        "import sys, signal, time\n"
        "def save(*_):\n"
        "    open(sys.argv[1] + '/own/saved', 'w').close()\n"
        "    raise SystemExit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "open(sys.argv[1] + '/own/started', 'w').close()\n"
        "time.sleep(10**6)\n"
    )
    waits = "import sys, os, time\nwhile not os.path.exists(sys.argv[1] + '/own/saved'): time.sleep(0.05)\n"
    with _opened(part) as (launcher, folder):
        found = _start(launcher, _job(folder, "saves", saves), _job(folder, "waits", waits))
        _until_exists(folder / "own" / "started", launcher, found)
        launcher.stop("saves")
        ended = _all_ended(launcher, 2, found)
        saved = (folder / "own" / "saved").exists()
        require(saved and ended["saves"].exit_code == 143, f"A stopped job cannot save: {ended['saves']}.")
        require(ended["waits"].exit_code == 0, f"The job beside a stopped one is reported with {ended['waits']}.")


def a_hanging_job_is_killed(part: ExaminedPart) -> None:
    """A job that writes nothing for longer than its patience is killed, and the launcher says so."""
    with _opened(part) as (launcher, folder):
        ended = _all_ended(launcher, 1, _start(launcher, _job(folder, "hangs", _SLEEPS, patience=1.0)))
        require(ended["hangs"].reason, f"A job that hangs is reported without a reason: {ended['hangs']}.")


def close_leaves_no_worker(part: ExaminedPart) -> None:
    """`close` kills the workers that are still running, and may be called again."""
    with _opened(part) as (launcher, folder):
        _start(launcher, _job(folder, "sleeps", _SLEEPS))
        file = folder / "own" / "pid"
        _until_exists(file, launcher, [])
        _until(lambda: bool(file.read_text()), "A job does not start.")
        process = int(file.read_text())
        launcher.close()
        deadline = time.monotonic() + 20
        while _is_alive(process):
            require(time.monotonic() < deadline, "After `close` a worker is still running.")
            time.sleep(0.05)
        launcher.close()


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


CHECKS = (
    runs_a_job,
    a_crash_costs_no_other,
    keeps_to_the_number_of_jobs,
    stops_one_job,
    a_hanging_job_is_killed,
    close_leaves_no_worker,
)
