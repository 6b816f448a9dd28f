"""Output of the commands: results on stdout as tables or JSON, messages on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from ganzoo.api.progress import log
from ganzoo.api.terminal import console, table

__all__ = ["log", "print_json", "print_table"]


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table on stdout; in a pipe it is Markdown."""
    terminal = sys.stdout.isatty()
    screen = console(width=None if terminal else 4000)
    with screen.capture() as capture:
        screen.print(table(columns, rows, title, markdown=not terminal))
    click.echo("\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines()))
