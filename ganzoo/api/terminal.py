"""What is drawn with rich: tables and live displays. No text is ever read as markup.

Texts come from users and plugins: paths, docstrings, help, class names, errors. `[low, high]`, `[/255]` and `:key:` are
markup for rich; here they are only text, because each console of the project is made by `console`.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Sequence
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def console(**settings: Any) -> Any:
    """A rich Console that prints every string as it is. `settings` are keywords of rich.console.Console."""
    state = random.getstate()
    from rich.console import Console

    random.setstate(state)  # the import of rich draws from Python's random generator
    no_color = bool(os.environ.get("NO_COLOR"))
    return Console(**settings, markup=False, emoji=False, highlight=False, no_color=no_color)


def plain(text: str) -> str:
    r"""The text without control characters, which could move the cursor or hide a line: each is written as `\x1b`."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", *, markdown: bool = False) -> Any:
    """A rich Table of texts, to print on `console()`. With `markdown` it is a Markdown table."""
    from rich import box
    from rich.table import Table

    style = box.MARKDOWN if markdown else box.SIMPLE_HEAD
    made = Table(title=plain(title) or None, box=style, title_justify="left")
    for column in columns:
        made.add_column(plain(column), overflow="fold")
    for row in rows:
        made.add_row(*map(plain, row))
    return made
