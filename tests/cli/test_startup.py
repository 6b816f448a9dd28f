"""Commands that only list names import no torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "list": ["list"],
    "list as json": ["list", "--json"],
    "list architectures": ["list", "architectures"],
    "list losses as json": ["list", "losses", "r*", "--json"],
    "train help": ["train", "--help"],
    "plugins": ["plugins"],
    "data list": ["data", "list"],
    "show help": ["show", "--help"],
    "plugins as json": ["plugins", "--json"],
}
_PROBE = """
import sys
from ganzoo.cli import cli
try:
    cli(sys.argv[1:])
finally:
    heavy = {"torch", "numpy", "torchvision", "PIL", "sklearn"} & set(sys.modules)
    print("HEAVY", sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_no_heavy_import(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", _PROBE, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stderr


def test_completion_answers_without_torch() -> None:
    environment = os.environ | {
        "_GANZOO_COMPLETE": "bash_complete",
        "COMP_WORDS": "ganzoo train dcgan",
        "COMP_CWORD": "2",
    }
    code = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n" \
           "from ganzoo.cli import cli; cli(prog_name='ganzoo')"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert "plain,dcgan-tutorial" in done.stdout
    assert done.stderr.strip() == "False"


def test_import_ganzoo_is_lazy() -> None:
    code = (
        "import ganzoo, sys; dir(ganzoo); ganzoo.Recipe; ganzoo.Choice; assert 'torch' not in sys.modules;"
        "ganzoo.Loss; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
