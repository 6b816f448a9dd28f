"""Options that several commands share to choose a recipe and how steps are executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ganzoo.api import recipes
from ganzoo.cli.options import no_pictures_option, pairs
from ganzoo.cli.parameters import OptionPairParam, RecipeParam
from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.recipe import Recipe

_Command = TypeVar("_Command", bound=Callable[..., Any])


def length_options(command: _Command) -> _Command:
    """--epochs, --images, --steps."""
    for unit in ("steps", "images", "epochs"):
        command = click.option(f"--{unit}", metavar="N", help=f"Total length of the run in {unit}.")(command)
    return command


def recipe_options(command: _Command) -> _Command:
    """-o, --recipe."""
    command = click.option(
        "--recipe",
        type=RecipeParam(),
        metavar="FILE.toml|RUN|NAME",
        help="A recipe file, a run, a variant of the architecture, or another's.",
    )(command)
    return click.option(
        "-o",
        "--option",
        "options",
        multiple=True,
        type=OptionPairParam(),
        metavar="KEY=VALUE",
        help="An option of the architecture, or dataset.KEY=VALUE.",
    )(command)


def run_options(command: _Command) -> _Command:
    """-q, -v, --no-pictures, --no-capture, --compile."""
    command = click.option(
        "--capture/--no-capture", default=None, help="Record CUDA steps in graphs (the default on CUDA), or not."
    )(command)
    command = click.option(
        "--compile/--no-compile",
        default=None,
        help="Compile the networks with torch.compile. Meant for CUDA: on a CPU it is slower.",
    )(command)
    command = no_pictures_option(command)
    command = click.option("-v", "--verbose", is_flag=True, help="Name every file that is written.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="No progress.")(command)


def execution_options(capture: bool | None, compile: bool | None) -> dict[str, bool]:
    """The options that are set. For the others a resumed run keeps its own values, and a new run has the defaults."""
    given = {"capture": capture, "compile": compile}
    return {name: value for name, value in given.items() if value is not None}


def recipe_from_options(
    given: dict[str, Choice],
    options: tuple[str, ...],
    named: str | None,
    length: Amount | None,
    shared: bool,
    changes: dict[str, Any],
) -> Recipe:
    """The recipe of parts by field, `-o` options, a named recipe and changed fields; None and () change nothing."""
    fields = {name: value for name, value in changes.items() if value not in (None, ())}
    return recipes.recipe_from_options(given, pairs(options), named, length, shared, fields)
