"""Output of the commands: results on stdout as tables or JSON, messages on stderr.

Every --json option prints one object by `print_json`:

    {"schema": 1, "command": "list", "parts": [{"name": "hinge", ...}, ...]}
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ganzoo.api.progress import log
from ganzoo.api.terminal import console, table

__all__ = ["SCHEMA", "log", "print_json", "print_table", "print_text", "wrapped"]

#: version of the shape of --json; increased when a key is renamed or removed, or gets another meaning
SCHEMA = 1
#: a line of so many letters ends because the next word did not fit
_FULL_LINE = 80


def print_json(**result: Any) -> None:
    """Print the result of the command that runs as one JSON object on stdout, with the schema's version and its name.

    Keys are words in snake_case. Several things of a kind are a list of objects, under the plural of what they are.
    """
    facts = {"schema": SCHEMA, "command": _command(), **result}
    click.echo(json.dumps(_finite(facts), indent=2, ensure_ascii=False, allow_nan=False))


def _command() -> str:
    """The name of the command that runs, without that of the program: `plugins check`."""
    ctx: click.Context | None = click.get_current_context()
    words: list[str] = []
    while ctx is not None and ctx.parent is not None:
        words.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return " ".join(words)


def _finite(value: Any) -> Any:
    """The value with NaN and infinity as text, because JSON has no number for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def print_text(text: str, indent: str = "") -> None:
    """Print a text on stdout; in a terminal it is wrapped at words. `indent` begins the lines after the first."""
    click.echo(wrapped(text, shutil.get_terminal_size().columns, indent) if sys.stdout.isatty() else text)


def wrapped(text: str, columns: int, indent: str = "") -> str:
    """The text in lines of at most so many columns, as far as its words allow that.

    A paragraph whose lines are full, as an author fills them, is filled anew. Other lines are wrapped one by one.
    """
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        full = len(lines) > 1 and all(len(line) >= _FULL_LINE and not line.startswith(" ") for line in lines[:-1])
        for line in [" ".join(lines)] if full else lines:
            begin = line[: len(line) - len(line.lstrip())]
            paragraphs += textwrap.wrap(
                line, columns, subsequent_indent=begin + indent, break_long_words=False, break_on_hyphens=False
            ) or [""]
        paragraphs.append("")
    return "\n".join(paragraphs[:-1])


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table on stdout; in a pipe it is Markdown."""
    terminal = sys.stdout.isatty()
    screen = console(width=None if terminal else 4000)
    with screen.capture() as capture:
        screen.print(table(columns, rows, title, markdown=not terminal))
    click.echo("\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines()))
