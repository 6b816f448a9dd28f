"""Observers that disturb the training they watch: one kills its process, one makes it last."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import ganzoo


class Killer(ganzoo.Observer):
    """Kills its process when the checkpoint of step 4 is complete, once for a folder of runs."""

    @ganzoo.hookimpl
    def on_checkpoint(self, run: Any, progress: Any, path: Path) -> None:
        """Called after each checkpoint."""
        once = run.path.parent / "killed"
        if progress.step == 4 and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Slow(ganzoo.Observer):
    """Waits after every line of statistics."""

    @ganzoo.hookimpl
    def on_tick(self, run: Any, progress: Any, scalars: Any) -> None:
        """Called after every second step of a tiny run."""
        time.sleep(0.4)
