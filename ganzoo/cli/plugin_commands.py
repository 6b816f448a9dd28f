"""Commands that plugins add to `ganzoo`: found without an import, and imported when they are run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence

import click

from ganzoo.contract.errors import UsageError
from ganzoo.contract.hooks import Command


def typed_names(built_in: Container[str]) -> dict[str, Command]:
    """Every plugin command by what is typed for it: its name, or `distribution/name` where the name is taken.

    A name is taken by a built-in command, by a command of torch-ganzoo itself, or by two plugins that both offer it.
    """
    from ganzoo.registry.plugins import FIRST_PARTY
    from ganzoo.registry.zoo import zoo

    commands = zoo().commands()
    counts = Counter(command.name for command in commands)
    first_party = {command.name for command in commands if command.distribution == FIRST_PARTY}
    found = {}
    for command in commands:
        wins = command.distribution == FIRST_PARTY or (counts[command.name] == 1 and command.name not in first_party)
        found[command.name if wins and command.name not in built_in else command.id] = command
    return found


def find_command(name: str, built_in: Container[str]) -> Command | None:
    """The plugin command with that name or id; None without one. Raises UsageError where several have the name."""
    names = typed_names(built_in)
    by_id = {command.id: command for command in names.values()}
    if command := names.get(name) or by_id.get(name):
        return command
    ids = [command.id for command in names.values() if command.name == name]
    if ids:
        raise UsageError(f"{name!r} is the name of {len(ids)} commands: write the full id, {' or '.join(ids)}.")
    return None


def typed_name(command: Command, built_in: Container[str]) -> str:
    """What is typed for a plugin command: its name, or its id where the name is taken."""
    return next(name for name, found in typed_names(built_in).items() if found == command)


def load_command(command: Command) -> click.Command:
    """The click command itself, imported now. Raises GanzooError, naming the plugin, where that fails."""
    from ganzoo.registry.zoo import zoo

    return zoo().load_command(command)


def clashes(built_in: Container[str]) -> dict[str, list[str]]:
    """A sentence for each command whose short name is taken, by the distribution that offers it."""
    found: dict[str, list[str]] = {}
    for typed, command in typed_names(built_in).items():
        if typed == command.id:
            whose = "a command of ganzoo itself" if command.name in built_in else "a command of another plugin too"
            note = f"commands: {command.name!r} is {whose}: write `ganzoo {command.id}`"
            found.setdefault(command.distribution, []).append(note)
    return found


def write_help(formatter: click.HelpFormatter, built_in: Sequence[str]) -> None:
    """A section of `ganzoo --help` for each distribution that adds commands."""
    by_distribution: dict[str, list[tuple[str, str]]] = {}
    for typed, command in typed_names(built_in).items():
        by_distribution.setdefault(command.distribution, []).append((typed, command.help))
    notes = clashes(built_in)
    for distribution, rows in by_distribution.items():
        with formatter.section(f"Commands of {distribution}"):
            formatter.write_dl(rows)
            for note in notes.get(distribution, []):
                formatter.write_text(f"Note: {note}.")
