"""Options that several training commands share, and the recipe that they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ganzoo.cli.options import pairs
from ganzoo.cli.output import log
from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.errors import UsageError
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.renamed_fields import renaming_note, with_current_names

_Command = TypeVar("_Command", bound=Callable[..., Any])
#: the fields of a recipe whose options `-o field.key=value` may set
_FIELDS = ("architecture", "dataset", "generator_optimizer", "discriminator_optimizer")


def length_options(command: _Command) -> _Command:
    """--epochs, --images, --steps."""
    for unit in ("steps", "images", "epochs"):
        command = click.option(f"--{unit}", metavar="N", help=f"Length of the run in {unit}, in all.")(command)
    return command


def talk_options(command: _Command) -> _Command:
    """-q, -v, --no-capture, --compile."""
    command = click.option(
        "--capture/--no-capture", default=None, help="Run CUDA steps as recorded graphs (the default), or eagerly."
    )(command)
    command = click.option(
        "--compile/--no-compile",
        default=None,
        help="Compile the networks' calls inside a step (torch.compile). Meant for CUDA: on a CPU it is slower.",
    )(command)
    command = click.option("-v", "--verbose", is_flag=True, help="Name every file that is written.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="No progress.")(command)


def execution_options(capture: bool | None, compile: bool | None) -> dict[str, bool]:
    """How steps are run, without what was not given: a resumed run keeps the settings it was started with."""
    given = {"capture": capture, "compile": compile}
    return {name: value for name, value in given.items() if value is not None}


def console_observers(quiet: bool, verbose: bool) -> dict[str, object]:
    """The observer that shows the progress of a run on the terminal; none with `quiet`."""
    from ganzoo.cli.console import Console

    return {} if quiet else {"console": Console(verbose)}


def _by_field(texts: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """The `-o` options by the field of the recipe whose part they belong to. A key without a dot: the architecture."""
    found: dict[str, dict[str, str]] = {}
    for key, value in pairs(texts).items():
        field, dot, option = key.partition(".")
        field, option = (field, option) if dot else ("architecture", key)
        if field not in _FIELDS:
            raise UsageError(
                f"-o {key}: options belong to one of {', '.join(_FIELDS)}; the architecture needs no prefix."
            )
        found.setdefault(field, {})[option] = value
    return found


def recipe_from_options(
    given: dict[str, Choice],
    options: tuple[str, ...],
    named: str | None,
    length: Amount | None,
    shared: bool,
    changes: dict[str, Any],
) -> Recipe:
    """The complete recipe: parts by field, `-o` options, a named recipe, and changed fields (None and () are ignored).

    An `-o` option of an optimizer changes the optimizer of the recipe, or the one in `given`.
    """
    from ganzoo.registry.recipes import plan
    from ganzoo.registry.zoo import zoo

    given_fields = {name: value for name, value in changes.items() if value not in (None, ())}
    fields = with_current_names(given_fields)
    in_file = Recipe.read_toml(Path(named)) if named and named.endswith(".toml") and Path(named).is_file() else {}
    if note := renaming_note({**in_file, **given_fields}):
        log(note)
    if length:
        fields["length"] = length
    fields |= {name: given[name] for name in _FIELDS[2:] if name in given}
    by_field = _by_field(options)
    if shared:
        fields["discriminator_optimizer"] = None
        by_field.pop("discriminator_optimizer", None)
    return plan(zoo(), given["architecture"], given["dataset"], named, fields, by_field)
