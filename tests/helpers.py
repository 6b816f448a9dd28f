"""Helpers of many tests: the command line, in this process or a new one, and small recipes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import tiny
from click.testing import CliRunner, Result

from ganzoo import Choice, Recipe
from ganzoo.cli import cli
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo

ZOO = Zoo()
#: 8x8 images, so that a step takes milliseconds
SMALL_DIGITS = Choice("digits", {"size": 8})


def ganzoo(*arguments: object) -> Result:
    """The result of `ganzoo ARGUMENTS...`, run in this process; .output holds stdout and stderr."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="ganzoo")


def ganzoo_process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The result of `python -m ganzoo ARGUMENTS...` in a process of its own, with these environment variables set."""
    command = [sys.executable, "-m", "ganzoo", *map(str, arguments)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)


def tiny_recipe(architecture: str = "Tiny", options: dict[str, Any] | None = None, **fields: Any) -> Recipe:
    """The complete recipe of an architecture of tests/tiny.py on small digits, with these fields changed."""
    return plan(ZOO, Choice(f"{tiny.__file__}:{architecture}", options or {}), SMALL_DIGITS, None, fields)
