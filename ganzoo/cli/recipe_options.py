"""Options that several commands share to choose a recipe and how steps are executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ganzoo.api import recipes
from ganzoo.cli.options import no_pictures_option, pairs
from ganzoo.cli.parameters import HalfLife, OptionPairParam, RecipeParam, WholeNumber
from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.recipe import EMA_BUFFERS, FAKE_LABELS, Recipe

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


def batch_options(command: _Command) -> _Command:
    """--batch-size, --accumulate, --preprocessing, --fake-labels, --joint-forward."""
    command = click.option(
        "--joint-forward/--no-joint-forward",
        default=None,
        help="Show the discriminator fakes and reals in one forward, or not.",
    )(command)
    command = click.option(
        "--fake-labels", type=click.Choice(FAKE_LABELS), help="Classes of the fakes: those of the reals, or drawn."
    )(command)
    command = click.option(
        "--preprocessing", metavar="flip+dequantise", help="What is done to the reals of each step; '' for nothing."
    )(command)
    command = click.option(
        "--accumulate",
        type=WholeNumber(1),
        metavar="N",
        help="Compute each batch in N parts, one after the other, to save memory.",
    )(command)
    return click.option("--batch-size", type=WholeNumber(1), metavar="N", help="Real images in a batch.")(command)


def ema_options(command: _Command) -> _Command:
    """--ema-half-life, --ema-start, --ema-ramp, --ema-buffers."""
    command = click.option(
        "--ema-buffers", type=click.Choice(EMA_BUFFERS), help="What the EMA does with buffers, as of batch norm."
    )(command)
    command = click.option(
        "--ema-ramp",
        type=click.FloatRange(min=0),
        metavar="SHARE",
        help="The half-life is at most this share of the images seen; 0: no limit.",
    )(command)
    command = click.option(
        "--ema-start", type=WholeNumber(0), metavar="IMAGES", help="The EMA copies the weights until so many were seen."
    )(command)
    command = click.option("--average-half-life", type=WholeNumber(0), hidden=True)(command)
    return click.option(
        "--ema-half-life",
        type=HalfLife(),
        metavar="IMAGES",
        help="Half-life of the generator's EMA, 0 for none, or '0 -> 500k by 20M'.",
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
