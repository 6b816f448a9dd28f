"""Trials as tasks of a Ray cluster."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import click

import ganzoo
import ganzoo_plugins.launchers._node as _node  # noqa: PLR0402  (a part imports private modules of its kind alone)
import ganzoo_plugins.launchers._worker as _worker  # noqa: PLR0402

_GIB = 2**30
#: bytes of Ray's store of objects, of a cluster that is started here: only small files of trials pass through it
_STORE_BYTES = 100_000_000
#: settings of Ray for this process: no reports to its makers, no events on disk, the devices as they are in a task
#: without GPUs, and trials at the priority of other programs (Ray lowers it by 15: on a busy machine they stand still)
_SETTINGS = {
    "RAY_BACKEND_LOG_LEVEL": "error",  # of an address where nothing answers it would print a line a second
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
}
#: seconds until an address counts as one that nobody answers at
_CONNECT_SECONDS = 5.0


@dataclasses.dataclass
class _Running:
    """A job and the stream of what its task sends."""

    job: ganzoo.Job
    stream: Any


class Ray(ganzoo.Launcher):
    """Tasks of a Ray cluster, one a trial; without an address, of a cluster that is started on this machine.

    Ray decides on which node a trial runs. It never repeats one: the next `ganzoo benchmark` resumes from the
    checkpoint, also on another node. Nodes that do not see the output folder get the files of the trial, and send them
    back.
    """

    def __init__(
        self,
        *,
        address: Annotated[
            str | None, "HOST:PORT of a cluster, or auto for the one on this machine; none: start one here"
        ] = None,
        threads: Annotated[
            int | None, click.IntRange(min=1), "CPU threads of a trial; none: OMP_NUM_THREADS, or 1"
        ] = None,
        gpus: Annotated[
            float | None, click.FloatRange(min=0), "GPUs of a trial, 0.25 for four on one; none: 1 where there are any"
        ] = None,
        memory: Annotated[float | None, click.FloatRange(min=0), "GiB of memory of a trial; none: not counted"] = None,
        resource: Annotated[str | None, "name of a resource of the cluster that a trial takes one of"] = None,
        shared: Annotated[bool | None, "whether all nodes see the output folder; none: they are asked"] = None,
        sync_seconds: Annotated[
            float, click.FloatRange(min=0.1), "seconds between two times that a node sends the files of a trial back"
        ] = 30.0,
    ) -> None:
        self.address, self.threads, self.gpus, self.memory = address, threads, gpus, memory
        self.resource, self.shared, self.sync_seconds = resource, shared, sync_seconds
        self.running: dict[str, _Running] = {}
        self._ray: Any = None
        #: whether this object has connected, and so has to disconnect
        self._connected = False
        #: environment variables before they were set here
        self._before: dict[str, str | None] = {}
        self._temporary: Path | None = None
        self._limit = 1

    def open(self, request: ganzoo.LaunchRequest) -> int:
        """Connect to the cluster, or start one, and compare what a trial asks for with what its nodes have."""
        self.note = request.note
        self._ray = _import_ray()
        self._connect(request.cores)
        self._task_options = self._checked_options(request)
        self._versions = _node.versions()
        for module in (_node, _worker):  # the nodes need not have this package
            self._ray.cloudpickle.register_pickle_by_value(module)
        self._is_shared = self._all_nodes_share(request.folder) if self.shared is None else self.shared
        if not self._is_shared:
            self.note(
                "Not all nodes see the output folder: the files of a trial are sent to its node, and back every "
                f"{self.sync_seconds:g} s."
            )
        self._task = self._ray.remote(num_returns="streaming", max_retries=0, **self._task_options)(_node.run_job)
        self._switch = self._ray.remote(num_cpus=0)(_node.Switch).remote()
        return int(self._task_options["num_cpus"])

    def ready(self) -> bool:
        """Whether fewer trials than allowed are running or in the queue of the cluster."""
        return len(self.running) < self._limit

    def start(self, job: ganzoo.Job) -> None:
        """Put the task of the job into the queue of the cluster."""
        task = self._task
        if job.threads != self._task_options["num_cpus"]:  # an interrupted run keeps its number of threads
            if job.threads > self._largest["CPU"]:
                raise ganzoo.GanzooError(
                    f"It was started with {job.threads} CPU threads, and no node of the cluster has more than "
                    f"{self._largest['CPU']:g}."
                )
            task = task.options(num_cpus=job.threads)
        facts = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
        facts["environment"], facts["inputs"] = dict(job.environment), dict(job.inputs)
        packed = None if self._is_shared else _node.pack(job.folder, job.files, {})
        stream = task.remote(facts, self._versions, self._switch, packed, self.sync_seconds)
        self.running[job.name] = _Running(job, stream)

    def ended(self) -> Sequence[ganzoo.EndedJob]:
        """The tasks that have ended. Files that nodes have sent are written."""
        if not self.running:
            return []
        by_stream = {running.stream: running for running in self.running.values()}
        try:
            ready, _ = self._ray.wait(list(by_stream), num_returns=len(by_stream), timeout=0, fetch_local=False)
        except self._ray.exceptions.RayError as error:
            raise ganzoo.GanzooError(f"The Ray cluster does not answer any more: {_first_line(error)}") from error
        found = []
        for stream in ready:
            job = by_stream[stream].job
            try:
                what, *values = self._ray.get(next(stream))
                if what == "files":
                    _keep(job, *values)
                    continue
                ended = ganzoo.EndedJob(job.name, *values)
            except StopIteration:
                ended = ganzoo.EndedJob(job.name, None, "Its Ray task ended without an exit code.")
            except self._ray.exceptions.OutOfMemoryError:
                ended = ganzoo.EndedJob(job.name, None, "Ray ended it because its node was short of memory.")
            except self._ray.exceptions.RayError as error:
                ended = ganzoo.EndedJob(job.name, None, f"Its Ray worker was lost: {_first_line(error)}")
            del self.running[job.name]
            found.append(ended)
        return found

    def stop(self, name: str) -> None:
        """Let the node of a trial send it SIGTERM."""
        if name in self.running:
            self._switch.stop.remote(name)

    def close(self) -> None:
        """End all tasks, and leave the cluster; one that was started here ends."""
        if self._ray is not None and self._ray.is_initialized():
            for running in self.running.values():
                with suppress(Exception):  # the cluster may be gone
                    self._ray.cancel(running.stream, force=True)
            if self._connected:
                self._ray.shutdown()
            elif hasattr(self, "_switch"):
                self._ray.kill(self._switch)
                del self._switch
        self.running.clear()
        self._connected = False
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before.clear()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    # --- the cluster ---

    def _set(self, name: str, value: str) -> None:
        """Set an environment variable until `close`, unless the user has set it."""
        if name not in os.environ:
            self._before.setdefault(name, None)
            os.environ[name] = value

    def _connect(self, cores: int) -> None:
        if self.address is not None:
            _refuse_silent_address(self.address)
        if self._ray.is_initialized():  # by the program that calls the Python API
            return
        for name, value in _SETTINGS.items():
            self._set(name, value)
        quiet = {"log_to_driver": False, "configure_logging": False}
        self._connected = True
        if self.address is None:
            # the paths of sockets in it may have 107 characters
            self._temporary = Path(tempfile.mkdtemp(prefix="gz", dir="/tmp" if os.path.isdir("/tmp") else None))  # noqa: S108
            self._ray.init(
                num_cpus=cores,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                _temp_dir=str(self._temporary),
                **quiet,
            )
            return
        authenticated = self._use_token()
        try:
            self._ray.init(address=self.address, **quiet)
        except Exception as error:  # of several kinds, some of them private
            if "uthent" in f"{type(error).__name__} {error}":
                raise ganzoo.GanzooError(
                    f"The Ray cluster at {self.address} asks for a token, which "
                    f"{'it does not accept' if authenticated else 'this machine does not have'}: copy the file "
                    "~/.ray/auth_token of its head node to here, and set RAY_AUTH_MODE=token."
                ) from error
            raise ganzoo.GanzooError(
                f"No Ray cluster was found at {self.address!r} ({_first_line(error)}): give HOST:PORT of its head "
                "node, or leave the address out to start a cluster on this machine."
            ) from error
        if not authenticated:
            self.note(
                f"Warning: the Ray cluster at {self.address} asks for no token, so anybody who reaches it can run "
                "programs on it; start it with RAY_AUTH_MODE=token."
            )

    def _use_token(self) -> bool:
        """Let Ray use a token where this machine has one; returns whether it does."""
        named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
        if named or (Path.home() / ".ray" / "auth_token").is_file():
            self._set("RAY_AUTH_MODE", "token")
        return os.environ.get("RAY_AUTH_MODE") == "token"

    def _checked_options(self, request: ganzoo.LaunchRequest) -> dict[str, Any]:
        """The resources of a task. Raises GanzooError where no node has so many: Ray would wait for ever."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        names = {name for node in nodes for name in node} | {"CPU", "GPU", "memory"}
        self._largest = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in names}
        gpus = self.gpus
        if gpus is None:
            has_gpus = self._largest["GPU"] > 0
            gpus = 1.0 if request.device.startswith("cuda") or (request.device == "auto" and has_gpus) else 0.0
        threads = self.threads or request.threads or 1
        wanted = {"CPU": float(threads), "GPU": gpus, "memory": (self.memory or 0.0) * _GIB}
        if self.resource:
            wanted[self.resource] = 1.0
        for name, amount in wanted.items():
            if self.resource == name and name not in self._largest:
                known = ", ".join(sorted(one for one in names if not one.startswith(("node:", "object_store"))))
                raise ganzoo.GanzooError(f"No node of the Ray cluster has the resource {name!r}; there are: {known}.")
            if amount > self._largest[name]:
                unit = f"{amount / _GIB:g} GiB of memory" if name == "memory" else f"{amount:g} {name}"
                most = self._largest[name] / _GIB if name == "memory" else self._largest[name]
                raise ganzoo.GanzooError(
                    f"A trial asks for {unit}, and the largest node of the Ray cluster has {most:.4g}: ask for less, "
                    "or add a node."
                )
        slots = sum(
            int(min(node.get(name, 0.0) // amount for name, amount in wanted.items() if amount)) for node in nodes
        )
        # some more than can run: the queue is never empty
        self._limit = request.jobs or 2 * slots + 2
        options: dict[str, Any] = {"num_cpus": threads, "num_gpus": gpus}
        if self.memory:
            options["memory"] = int(wanted["memory"])
        return options | ({"resources": {self.resource: 1.0}} if self.resource else {})

    def _all_nodes_share(self, folder: Path) -> bool:
        """Whether every node sees the output folder. Raises GanzooError for a node with other versions."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        own = folder / "launcher"
        own.mkdir(exist_ok=True)
        token, text = own / f"token-{uuid.uuid4().hex}", uuid.uuid4().hex
        token.write_text(text)
        try:
            probe = self._ray.remote(num_cpus=0, max_retries=0)(_node.probe)
            ids = [node["NodeID"] for node in self._ray.nodes() if node["Alive"]]
            tasks = [
                probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(one, soft=False)).remote(
                    str(token), text
                )
                for one in ids
            ]
            answers = self._ray.get(tasks, timeout=120)
        except self._ray.exceptions.RayError as error:
            raise ganzoo.GanzooError(f"A node of the Ray cluster does not work: {_first_line(error)}") from error
        finally:
            token.unlink(missing_ok=True)
        for node, _, versions in answers:
            for package, version in self._versions.items():
                if versions[package] != version:
                    raise ganzoo.GanzooError(
                        f"Node {node} has {package} {versions[package]}, and this machine has {version}: their numbers "
                        "would not belong into one table. Install the same version on both."
                    )
        return all(shared for _, shared, _ in answers)


def _import_ray() -> Any:
    try:
        import ray
        import ray.cloudpickle
    except ImportError as error:
        raise ganzoo.GanzooError(
            "The launcher ray needs Ray, which is not installed: pip install 'torch-ganzoo[ray]'."
        ) from error
    return ray


def _refuse_silent_address(address: str) -> None:
    """Raise GanzooError unless something listens at HOST:PORT: Ray would try for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "//" in address:
        raise ganzoo.UsageError(
            f"address={address!r} is no address of a Ray cluster: write auto, or HOST:PORT, such as node1:6379."
        )
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ganzoo.GanzooError(
            f"Nothing answers at {address} ({error}): start Ray there (`ray start --head`), or give the address of its "
            "head node."
        ) from None


def _keep(job: ganzoo.Job, names: list[str], data: bytes, text: bytes) -> None:
    """Write the files and the new part of the log that a node has sent."""
    _node.unpack(job.folder, job.files, names, data)
    with open(job.folder / job.log, "ab") as log:
        log.write(text)


def _first_line(error: BaseException) -> str:
    """The first line of the message of an error of Ray; those of tasks have a traceback, whose last line says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    traced = any(line.startswith("Traceback") or "::" in line for line in lines[:2])
    return (lines[-1] if traced else lines[0])[:300]
