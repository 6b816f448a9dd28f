"""Modules that only Unix has are imported where they are used, so that the package can be imported on Windows."""

from __future__ import annotations

import subprocess
import sys

_IMPORT_ALL = """
import importlib, pkgutil, sys
import filelock, torch, torchvision  # what they do without these modules is their own affair
for name in ("fcntl", "resource"):
    sys.modules[name] = None  # makes `import` fail
import ganzoo, ganzoo_plugins
def broken(name):
    raise
names = [
    module.name
    for package in (ganzoo, ganzoo_plugins)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=broken)
    if not module.name.endswith("__main__")
]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_all_modules_are_imported_without_fcntl_and_resource() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
