"""The options that say what to train, and the recipe they give."""

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
#: where a dotted `-o part.key=value` goes
_OWNERS = ("architecture", "dataset", "generator_optimizer", "discriminator_optimizer")


def length_options(command: _Command) -> _Command:
    """--epochs, --images, --steps."""
    for unit in ("steps", "images", "epochs"):
        command = click.option(f"--{unit}", metavar="N", help=f"Length of the run in {unit}, in all.")(command)
    return command


def talk_options(command: _Command) -> _Command:
    """-q, -v, --no-capture, --compile."""
    command = click.option(
        "--capture/--no-capture", default=None, help="Play CUDA steps from recorded graphs (the default), or eagerly."
    )(command)
    command = click.option(
        "--compile/--no-compile",
        default=None,
        help="Compile the networks' calls inside a step (torch.compile). Meant for CUDA: on a CPU it is slower.",
    )(command)
    command = click.option("-v", "--verbose", is_flag=True, help="Name every file that is written.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="No progress.")(command)


def execution_options(capture: bool | None, compile: bool | None) -> dict[str, bool]:
    """How steps are to be played, as far as somebody said so; a run is resumed as it was begun."""
    given = {"capture": capture, "compile": compile}
    return {name: value for name, value in given.items() if value is not None}


def console_observers(quiet: bool, verbose: bool) -> dict[str, object]:
    """Observers of a run for whoever sits before it."""
    from ganzoo.cli.console import Console

    return {} if quiet else {"console": Console(verbose)}


def _dotted(texts: tuple[str, ...], choices: dict[str, Choice]) -> dict[str, Choice]:
    """Choices with the options that `-o` gives them; a key without a dot belongs to the architecture."""
    for key, value in pairs(texts).items():
        owner, dot, option = key.partition(".")
        owner, option = (owner, option) if dot else ("architecture", key)
        if owner not in _OWNERS:
            raise UsageError(
                f"-o {key}: options belong to one of {', '.join(_OWNERS)}; the architecture needs no prefix."
            )
        base = choices.get(owner) or Choice("")
        choices[owner] = Choice(base.name, {**base.options, option: value})
    return choices


def recipe_from_options(
    given: dict[str, Choice],
    options: tuple[str, ...],
    named: str | None,
    length: Amount | None,
    shared: bool,
    changes: dict[str, Any],
) -> Recipe:
    """The recipe of parts by field, `-o` options, a named recipe and changed fields, of which None and () are none."""
    from ganzoo.registry.recipes import plan
    from ganzoo.registry.zoo import zoo

    given_fields = {name: value for name, value in changes.items() if value not in (None, ())}
    fields = with_current_names(given_fields)
    in_file = Recipe.read_toml(Path(named)) if named and named.endswith(".toml") and Path(named).is_file() else {}
    if note := renaming_note({**in_file, **given_fields}):
        log(note)
    if length:
        fields["length"] = length
    architecture, dataset = given["architecture"], given["dataset"]
    base = plan(zoo(), architecture, dataset, named, fields)
    # an option of an optimiser changes the one the recipe has, unless another was named
    optimizers = {name: getattr(base, name) for name in _OWNERS[2:] if getattr(base, name)}
    chosen = _dotted(options, {**optimizers, **given})
    if shared:
        chosen.pop("discriminator_optimizer", None)
        fields["discriminator_optimizer"] = None
    fields |= {name: chosen[name] for name in _OWNERS[2:] if name in chosen}
    return plan(zoo(), chosen["architecture"], chosen["dataset"], named, fields)
