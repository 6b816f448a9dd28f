"""Output of the commands: results on stdout as tables or JSON, messages on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from ganzoo.api.progress import log

__all__ = ["log", "print_json", "print_table"]


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table on stdout; in a pipe it is Markdown."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 4000, no_color=bool(os.environ.get("NO_COLOR")), highlight=False)
    table = Table(title=title or None, box=box.SIMPLE_HEAD if terminal else box.MARKDOWN, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines()))
