"""What a node of a Ray cluster does for one trial. Ray sends this module to the nodes, which may have no ganzoo.

A node that sees the folder of the benchmark works in it. Another one works in a temporary folder: it gets the files of
the trial as bytes, and sends back what has changed, again and again, so that another node can resume the trial.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import shutil
import socket
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ganzoo_plugins.launchers._worker import Worker

#: packages whose versions must be those of the machine that starts the trials
PACKAGES = ("torch-ganzoo", "torch")
#: seconds between two looks at the worker, and between two questions whether it is to stop
_POLL_SECONDS, _STOP_SECONDS = 0.1, 1.0
#: files that belong to one machine
_NOT_SENT = ("lock", ".guard")

#: files as they were sent: relative path -> size and time of the last change
Known = dict[str, tuple[int, int]]


def versions() -> dict[str, str]:
    """The versions of `PACKAGES` here; "none" for a package that is not installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def probe(token: str, text: str) -> tuple[str, bool, dict[str, str]]:
    """The name of this node, whether it sees the file `token` with this text, and its versions."""
    try:
        shared = Path(token).read_text() == text
    except OSError:
        shared = False
    return socket.gethostname(), shared, versions()


def fault(expected: Mapping[str, str], inputs: Mapping[str, str]) -> str:
    """Why this node cannot run a trial: another version, or a file that it does not have; empty if it can."""
    node, here = socket.gethostname(), versions()
    for package, version in expected.items():
        if here[package] != version:
            return (
                f"Node {node} has {package} {here[package]}, and this machine has {version}: their numbers would not "
                "belong into one table. Install the same version on both."
            )
    for name, digest in inputs.items():
        path = Path(name)
        if not path.exists():
            return f"Node {node} has no {name}, which the trial reads: put it into a folder that all nodes see."
        if digest and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return f"Node {node} has another {name} than this machine: copy it there, or use a shared folder."
    return ""


def pack(folder: Path, files: tuple[str, ...], known: Known) -> tuple[list[str], bytes]:
    """The paths of all files below the directories `files` of a folder, and a tar of those that are new or changed.

    Checkpoints come first: what is read after them is at least as new, and a resumed run cuts back what is newer.
    """
    paths = [path for name in files for path in sorted((folder / name).rglob("*"))]
    paths = [path for path in paths if path.name not in _NOT_SENT and not path.name.startswith(".")]
    paths.sort(key=lambda path: "checkpoints" not in path.parts)
    names, data = [], io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in paths:
            name = path.relative_to(folder).as_posix()
            try:
                if not path.is_file():
                    continue
                content, status = path.read_bytes(), path.stat()
            except OSError:
                continue  # it was removed in the meantime
            names.append(name)
            state = (len(content), status.st_mtime_ns)
            if known.get(name) != state:
                known[name] = state
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(content), int(status.st_mtime)
                tar.addfile(entry, io.BytesIO(content))
    return names, data.getvalue()


def unpack(folder: Path, files: tuple[str, ...], names: list[str], data: bytes) -> None:
    """Write the files of a tar below a folder, each whole or not at all, and remove files that are not in `names`.

    Raises ValueError for a file that is not below one of the directories `files`.
    """
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for entry in tar:
            parts = Path(entry.name).parts
            if not entry.isfile() or ".." in parts or not any(Path(entry.name).is_relative_to(name) for name in files):
                raise ValueError(f"{entry.name!r} is no file of this trial")
            content, path = tar.extractfile(entry), folder / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                temporary.write_bytes(content.read() if content else b"")
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
    kept = set(names)
    for name in files:
        for path in sorted((folder / name).rglob("*"), reverse=True):  # files before their folder
            if path.is_dir():
                if path.parent.name == "checkpoints" and not any(path.iterdir()):
                    path.rmdir()
            elif path.name not in _NOT_SENT and path.relative_to(folder).as_posix() not in kept:
                path.unlink(missing_ok=True)


class Switch:
    """The names of the trials that are to stop. One actor of Ray holds them for all nodes."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def stop(self, name: str) -> None:
        """Add a name."""
        self.names.add(name)

    def is_stopped(self, name: str) -> bool:
        """Whether a trial is to stop."""
        return name in self.names


def run_job(
    facts: dict[str, Any],
    expected: dict[str, str],
    switch: Any,
    packed: tuple[list[str], bytes] | None,
    sync_seconds: float,
) -> Iterator[tuple[Any, ...]]:
    """Run the worker of a job on this node.

    `facts` are the fields of the job. Yields ("files", paths, tar, new text of the log) while it runs, if `packed` has
    the files of the trial and the node does not share the folder; at the end ("ended", exit code, reason).
    """
    if reason := fault(expected, facts["inputs"]):
        yield "ended", None, reason
        return
    import ganzoo

    job = ganzoo.Job(**facts)
    variables = {name: os.environ.get(name, "") for name in ("GANZOO_DATA", "GANZOO_CACHE") if _is_missing(job, name)}
    if packed is None:
        if not job.folder.is_dir():
            yield "ended", None, f"Node {socket.gethostname()} does not see {job.folder}, which other nodes see."
            return
        worker = Worker(job, variables=variables)
        while (code := _wait(worker, switch, sync_seconds)) is None:
            pass
        yield "ended", code, worker.reason
        return
    folder = Path(tempfile.mkdtemp(prefix="ganzoo-"))
    try:
        try:
            unpack(folder, job.files, *packed)
            for name in job.files:
                (folder / name).mkdir(parents=True, exist_ok=True)
            known: Known = {}
            pack(folder, job.files, known)
            worker = Worker(job, folder, variables)
        except OSError as error:
            yield "ended", None, f"Node {socket.gethostname()} cannot write into {folder}: {error.strerror}."
            return
        read = 0
        while True:
            code = _wait(worker, switch, sync_seconds)
            text = (folder / job.log).read_bytes()[read:]
            read += len(text)
            yield "files", *pack(folder, job.files, known), text
            if code is not None:
                break
        yield "ended", code, worker.reason
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_missing(job: Any, name: str) -> bool:
    """Whether the job names a folder by a variable that this node does not have; then that of the node counts."""
    return name in job.environment and not Path(job.environment[name]).is_dir()


def _wait(worker: Worker, switch: Any, seconds: float) -> int | None:
    """The exit code of the worker, or None after so many seconds."""
    import ray

    started = asked = time.monotonic()
    delay = 0.005  # a trial that ends at once is noticed at once
    while (code := worker.poll()) is None and (now := time.monotonic()) - started < seconds:
        if now - asked >= _STOP_SECONDS:
            asked = now
            if ray.get(switch.is_stopped.remote(worker.job.name)):
                worker.stop()
        time.sleep(delay)
        delay = min(2 * delay, _POLL_SECONDS)
    return code
