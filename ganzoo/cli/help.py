"""The help pages: commands in groups, options in sections, examples that fit the terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

#: group of `ganzoo --help` -> command -> its line there. What is not built in yet is not shown; a command that is
#: missing here is shown in a group of its own, and imported for its line
GROUPS = {
    "Train and look": {
        "recommend": "Recommend a recipe for a dataset.",
        "train": "Train an architecture on a dataset.",
        "resume": "Continue a run from its newest checkpoint.",
        "watch": "Follow a run that trains in another process.",
        "sample": "Draw new images with the generator of a run.",
        "explore": "Move through what a generator has learned, in a browser.",
        "serve": "Show runs in a browser while they train.",
        "demo": "Train two small GANs on digits, in minutes.",
    },
    "Compare": {
        "evaluate": "Score the generator of a run.",
        "benchmark": "Train and score many, and compare them in a table.",
        "merge": "Join benchmarks of several machines into one table.",
        "tune": "Search a better recipe, and score it on other seeds.",
        "speedrun": "Measure the time until a score reaches a target.",
        "compare": "Show the scores of runs side by side.",
        "report": "Write a page of runs and benchmarks.",
        "plot": "Plot losses and scores of runs.",
    },
    "Extend": {
        "list": "List the parts that can be used by name.",
        "show": "Show one part: its options, recipe and networks.",
        "plugins": "List the plugins, check a part, start a new one.",
        "export": "Write a generator for other programs.",
        "push": "Upload an export to a model hub.",
        "pull": "Download an export from a model hub.",
        "import": "Make a run from an official checkpoint.",
        "import-checkpoint": "Turn a .pt or .pth file into safetensors.",
    },
    "Look after": {
        "runs": "List the runs of a folder; remove or archive some.",
        "data": "Download, verify, convert and list datasets.",
        "replay": "Run one step of a run again and examine it.",
        "doctor": "Check this installation, with advice for problems.",
    },
}
#: the group of commands that are in no group
_OTHER = "More"
#: in narrower terminals the descriptions of options begin further left
_NARROW = 70
#: a command, and what it does, two spaces or more behind it
_EXAMPLE = re.compile(r"^(\S.*?\S) {2,}(\S.*)$")


def short_help(name: str) -> str | None:
    """The line of a built-in command in `ganzoo --help`; None for one that is in no group."""
    return next((lines[name] for lines in GROUPS.values() if name in lines), None)


def grouped(built_in: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """(group, its commands) for those commands that are built in."""
    names = set(built_in)
    for group, lines in GROUPS.items():
        if here := [name for name in lines if name in names]:
            yield group, here
    if others := [name for name in built_in if short_help(name) is None]:
        yield _OTHER, others


class HelpFormatter(click.HelpFormatter):
    """Fits examples to the width: blocks of a docstring after a line with the character backspace."""

    def write_text(self, text: str) -> None:
        """Write paragraphs; a block of examples keeps its lines as far as they fit."""
        blocks = text.split("\n\n")
        width = self.width - self.current_indent
        super().write_text("\n\n".join(_fitted(block, width) if block.startswith("\b") else block for block in blocks))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of terms and their descriptions."""
        super().write_dl(list(rows), min(col_max, 22) if self.width < _NARROW else col_max, col_spacing)


def _fitted(block: str, width: int) -> str:
    """A block of examples in lines of at most so many columns: what an example does goes below it, or is wrapped."""
    head, *lines = block.splitlines()
    if all(len(line) <= width for line in lines):
        return block
    fitted = []
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        found = _EXAMPLE.match(line.strip())
        command, what = found.groups() if found else (line.strip(), "")
        parts = _wrapped(command, width - len(indent) - 2)
        fitted += [f"{indent}{part}" for part in " \\\n".join(parts).splitlines()]
        begin = f"{indent}    "
        fitted += textwrap.wrap(what, width, initial_indent=begin, subsequent_indent=begin) if what else []
    return "\n".join([head, *fitted])


def _wrapped(command: str, width: int) -> list[str]:
    """A command in lines of at most so many columns, which begin with an option: its value stays beside it."""
    lines = [""]
    for words in re.split(r" (?=-)", command):
        longer = f"{lines[-1]} {words}".lstrip() if len(lines) == 1 else f"{lines[-1]} {words}"
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(f"  {words}")
    return lines


class HelpContext(click.Context):
    """The context of every command of ganzoo."""

    formatter_class = HelpFormatter


class SectionedCommand(click.Command):
    """A command with its options in sections: a title -> the options below it, `--epochs --images --steps`.

    The others are in the last section. Names of options that the command does not have are passed over.
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, str], **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.sections = {title: names.split() for title, names in sections.items()}

    def section_of(self, option: click.Parameter) -> str:
        """The title above an option."""
        last = next(reversed(self.sections))
        return next((title for title, names in self.sections.items() if set(names) & set(option.opts)), last)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list of options below each title."""
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        for title, names in self.sections.items():
            here = [option for option in options if self.section_of(option) == title]
            here.sort(key=lambda option: min((names.index(name) for name in option.opts if name in names), default=99))
            if rows := [record for option in here if (record := option.get_help_record(ctx))]:
                with formatter.section(title):
                    formatter.write_dl(rows)
