"""One worker process: started, watched for hanging, stopped. It needs the standard library alone.

The launcher of Ray sends this module to nodes that may have no ganzoo.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ganzoo

#: longest time in seconds between two checks of what a worker has written
_HANG_CHECK_SECONDS = 60.0
#: seconds between two looks at the memory of a worker
_MEMORY_CHECK_SECONDS = 1.0


class Worker:
    """The worker process of a job.

    Its output is appended to the log of the job. `folder` is where the folder of the job lies on this machine.
    `variables` are added to the environment.
    """

    def __init__(self, job: ganzoo.Job, folder: Path | None = None, variables: dict[str, str] | None = None) -> None:
        self.job, self.folder = job, folder or job.folder
        self.hung = False
        #: the largest memory in bytes that the process has used so far; 0 where it is not known
        self.peak = 0
        self._newest_write = 0.0
        # time.monotonic stops while the machine sleeps
        self._last_check = self._unchanged_since = self._memory_check = time.monotonic()
        log = self.folder / job.log
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                job.command(sys.executable, self.folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **job.environment, **(variables or {})},
                # a session of its own: Ctrl-C in the terminal is sent to the benchmark only, which then stops its
                # workers
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """The exit code; None while it runs. Kills the process if it hangs."""
        code = self.process.poll()
        if code is None:
            now = time.monotonic()
            if now - self._memory_check >= _MEMORY_CHECK_SECONDS:
                self._memory_check, self.peak = now, max(self.peak, self._memory("VmHWM"))
            if now - self._last_check >= min(_HANG_CHECK_SECONDS, self.job.patience / 10):
                self._kill_if_hung(now)
        return code

    @property
    def reason(self) -> str:
        """Why this launcher has killed it; empty if it did not."""
        if not self.hung:
            return ""
        hours = f"{self.job.patience / 3600:.3g}"
        unit = "hour" if hours == "1" else "hours"
        return f"Its process wrote nothing for {hours} {unit} (--patience), and was killed."

    def stop(self) -> None:
        """Ask the process to save and end; does not wait."""
        self.process.terminate()

    def kill(self) -> None:
        """Kill the process. Only the steps since its last checkpoint are lost."""
        self.process.kill()
        self.process.wait()

    @property
    def memory(self) -> int:
        """The memory in bytes that the process uses now; 0 where it is not known."""
        return self._memory("VmRSS")

    def _memory(self, field: str) -> int:
        with suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith(f"{field}:"):
                    return int(line.split()[1]) * 1024
        return 0

    def _kill_if_hung(self, now: float) -> None:
        previous, self._last_check = self._newest_write, now
        for path in (self.folder / self.job.log, *self._files()):
            with suppress(OSError):  # the file was deleted in the meantime
                self._newest_write = max(self._newest_write, path.stat().st_mtime)
        if self._newest_write > previous:
            self._unchanged_since = now
        elif now - self._unchanged_since > self.job.patience:
            self.hung = True
            self.process.kill()  # a hanging process may ignore SIGTERM

    def _files(self) -> list[Path]:
        found = []
        for name in self.job.files:
            directory = self.folder / name
            found += [directory, *directory.glob("*"), *directory.glob("*/*")]
        return found


def free_memory() -> int | None:
    """The bytes of memory that processes of this machine can still take; None where it is not known."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024)
    with suppress(OSError, ValueError, StopIteration):  # the limit of a container
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        statistics = (group / "memory.stat").read_text().splitlines()
        cached = int(next(line for line in statistics if line.startswith("inactive_file ")).split()[1])
        found.append(max(0, limit - used + cached))
    return min(found, default=None)
