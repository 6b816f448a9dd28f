"""A Ray cluster of this process, which tests of the launcher share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ganzoo_plugins.launchers.ray import _SETTINGS


@contextmanager
def ray_cluster(cpus: int) -> Iterator[None]:
    """A cluster with so many CPUs. Its folder has a short name in ASCII, as Ray needs it: TMPDIR may have another."""
    ray = pytest.importorskip("ray")
    folder = tempfile.mkdtemp(prefix="gz", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _SETTINGS.items():
            patch.setenv(name, value)
        quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
        try:
            ray.init(num_cpus=cpus, object_store_memory=100_000_000, _temp_dir=folder, **quiet)
            yield
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
