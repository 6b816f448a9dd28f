"""Parameter types and options that several commands share."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from ganzoo.api.keywords import dataset_choice, length_of
from ganzoo.api.parts import matches
from ganzoo.api.terminal_pictures import no_pictures
from ganzoo.cli.help import HelpContext
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.hooks import KINDS, kind_named
from ganzoo.contract.paths import absolute_path

if TYPE_CHECKING:
    import torch


__all__ = [
    "AnyPartParam",
    "At",
    "KindParam",
    "OptionPairParam",
    "PartParam",
    "PositiveNumber",
    "RecipeParam",
    "RunParam",
    "Shape",
    "WholeNumber",
    "at_option",
    "changed_code_option",
    "changed_images_option",
    "data_dir_option",
    "device_named",
    "device_option",
    "inception_weights_option",
    "json_option",
    "kind_option",
    "length_of",
    "matches",
    "no_pictures_option",
    "pairs",
    "run_argument",
    "seeds_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class PartParam(click.ParamType):
    """A parameter that names a part of one kind: `mnist`, `mnist:size=32`, or a location, `./file.py:Class`.

    Its value is a Choice. The name is not looked up here, so that parsing imports nothing.
    """

    def __init__(self, kind: str) -> None:
        #: a key of `KINDS`, such as "datasets"
        self.kind = kind
        self.name = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Choice:
        """The Choice for this text. Raises UsageError where it is not written like a part."""
        return dataset_choice(value) if self.kind == "datasets" else Choice.parse(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names of the kind that begin with `incomplete`, and after `name:` the options; without an import."""
        from ganzoo.cli.completion import part_items

        return part_items(self.kind, incomplete)


def _typed(ctx: click.Context, name: str) -> Any:
    """The value of an argument that is typed before the word to complete; None without one.

    Click leaves arguments unassigned where the last word is an option that has no value yet: then they are in `args`.
    """
    arguments = [param for param in ctx.command.params if isinstance(param, click.Argument)]
    if ctx.params.get(name) in (None, ()):
        with suppress(GanzooError, click.UsageError):
            for argument, text in zip(arguments, ctx.args, strict=False):
                if argument.name == name:
                    return argument.type.convert(text, argument, ctx)
    return ctx.params.get(name)


class AnyPartParam(click.ParamType):
    """A parameter that names a part of any kind. Its value is the text."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names of all kinds that begin with `incomplete`."""
        from ganzoo.cli.completion import any_part_items

        return any_part_items(incomplete)


class OptionPairParam(click.ParamType):
    """`KEY=VALUE`, an option of the command's architecture, or `dataset.KEY=VALUE`. Its value is the text."""

    name = "key=value"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The options of the architecture and the dataset that are typed before, with `=`."""
        from ganzoo.cli.completion import option_items

        return option_items(_typed(ctx, "architecture"), _typed(ctx, "dataset"), incomplete)


class RecipeParam(click.ParamType):
    """A recipe file, or the name of a recipe. Its value is the text."""

    name = "recipe"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The variants of the architecture that is typed before, or files."""
        from ganzoo.cli.completion import recipe_items

        return recipe_items(_typed(ctx, "architecture"), incomplete)


class RunParam(click.Path):
    """The directory of a run. Its value is a Path; whether it holds a run is checked when it is opened."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The runs whose path begins with `incomplete`, the newest first."""
        from ganzoo.cli.completion import run_items

        return run_items(incomplete)


class KindParam(click.ParamType):
    """A parameter that names a kind of part, in the singular or the plural. Its value is a key of `KINDS`."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The key of `KINDS`. Raises UsageError, with all kinds, for another text."""
        return kind_named(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The kinds that begin with `incomplete`."""
        return [CompletionItem(kind) for kind in KINDS if kind.startswith(incomplete)]


class WholeNumber(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Raises click's usage error, with the bounds, for another text."""
        low, high = self.min, self.max
        try:
            number: int | None = int(value)
        except (ValueError, TypeError):
            number = None
        if number is not None and (low is None or number >= low) and (high is None or number <= high):
            return number
        bounds = [f"{word} {end}" for word, end in (("at least", low), ("at most", high)) if end is not None]
        self.fail(f"{value!r} is not a whole number{' of ' if bounds else ''}{' and '.join(bounds)}.", param, ctx)


class PositiveNumber(click.FloatRange):
    """A finite number above 0."""

    name = "number"

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Raises click's usage error for another text."""
        try:
            number = float(value)
        except (ValueError, TypeError):
            number = 0.0
        if 0 < number < math.inf:
            return number
        self.fail(f"{value!r} is not a number above 0.", param, ctx)


class Shape(click.ParamType):
    """A parameter for the shape of a grid, written ROWSxCOLUMNS: `4x8` becomes (4, 8)."""

    name = "RxC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(rows, columns), both from 1 to 99. Raises UsageError for another text."""
        from ganzoo.contract.recipe import Recipe

        return value if isinstance(value, tuple) else Recipe(grid=value).grid_shape


def _use_data_dir(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is None:
        return
    value = absolute_path(value)
    # the first download creates a folder that the environment names; a folder that is typed must exist
    typed = ctx.get_parameter_source("data_dir") is ParameterSource.COMMANDLINE
    if (typed or value.exists()) and not value.is_dir():
        raise click.BadParameter(f"there is no directory {value}.", ctx, param)
    os.environ["GANZOO_DATA"] = str(value)


def data_dir_option(command: _Command) -> _Command:
    """--data-dir, for this process and its child processes."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_use_data_dir,
        envvar="GANZOO_DATA",
        show_envvar=True,
        help="Folder of the datasets.",
    )(command)


def _use_inception_weights(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        os.environ["GANZOO_INCEPTION_WEIGHTS"] = str(absolute_path(value))


def inception_weights_option(command: _Command) -> _Command:
    """--inception-weights, for this process and its child processes."""
    return click.option(
        "--inception-weights",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        expose_value=False,
        callback=_use_inception_weights,
        envvar="GANZOO_INCEPTION_WEIGHTS",
        show_envvar=True,
        metavar="FILE",
        help="File of the Inception-v3 weights of FID.  [default: downloaded]",
    )(command)


def _forbid_pictures(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        no_pictures()


def no_pictures_option(command: _Command) -> _Command:
    """--no-pictures, for this process and its child processes."""
    return click.option(
        "--no-pictures",
        is_flag=True,
        expose_value=False,
        callback=_forbid_pictures,
        help="Show no sample grids in the terminal. GANZOO_PICTURES=kitty|iterm2|sixel|off chooses how.",
    )(command)


def seeds_option(command: _Command) -> _Command:
    """--seeds, given once or several times; the value is one text for `parse_seeds`."""
    return click.option(
        "--seeds",
        multiple=True,
        default=("0,1,2",),
        metavar="0,1,2|0..4",
        callback=lambda ctx, param, value: ",".join(value),
        help="One training for each seed.  [default: 0,1,2]",
    )(command)


def json_option(command: _Command) -> _Command:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(command)


def device_option(default: str | None = "auto") -> Callable[[_Command], _Command]:
    """--device."""
    return click.option(
        "--device",
        default=default,
        metavar="auto|cpu|cuda|cuda:N",
        show_default=default is not None,
        help="Device to compute on.",
    )


class At(click.ParamType):
    """A parameter that chooses a saved generator: images seen, `epoch:20`, `step:5000`, `best` or `last`.

    Its value is the canonical form of `saved_generators.parse_at`.
    """

    name = "IMAGES|epoch:E|step:S|best|last"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number of images, or a word. Raises click's usage error for another text."""
        from ganzoo.storage.saved_generators import parse_at

        try:
            return parse_at(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The generators that the run has, which is typed before."""
        from ganzoo.cli.completion import moment_items

        typed = _typed(ctx, "run") or _typed(ctx, "runs") or None
        return moment_items(typed[-1] if isinstance(typed, tuple) else typed, incomplete)


def kind_option(command: _Command) -> _Command:
    """--kind, of a part that is given by name."""
    return click.option("--kind", type=KindParam(), help="Needed only if two kinds have a part with that name.")(
        command
    )


def at_option(command: _Command) -> _Command:
    """--at."""
    help = "Which saved generator: by images seen, epoch or step, or by the best score.  [default: last]"
    return click.option("--at", type=At(), metavar="IMAGES|epoch:E|step:S|best|last", help=help)(command)


def changed_code_option(command: _Command) -> _Command:
    """--accept-changed-code."""
    return click.option(
        "--accept-changed-code", "changed_code", is_flag=True, help="Continue although a part's file has changed."
    )(command)


def changed_images_option(command: _Command) -> _Command:
    """--accept-changed-images."""
    return click.option(
        "--accept-changed-images", "changed_images", is_flag=True, help="Continue although the images have changed."
    )(command)


def run_argument(command: _Command) -> _Command:
    """RUN, the directory of a run."""
    return click.argument("run", type=RunParam())(command)


def device_named(name: str) -> torch.device:
    """The torch device for the value of --device. Raises GanzooError where it is not there."""
    from ganzoo.engine.device import find_device

    return find_device(name)


def pairs(texts: Sequence[str], option: str = "-o") -> dict[str, str]:
    """A dict from texts written key=value. Raises UsageError for another text."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text!r} is not written key=value.")
        found[key] = value
    return found


def prepare(command: click.Command, prefix: str) -> None:
    """Let the environment set each option under its long name, and fit the help page to the terminal.

    GANZOO_TRAIN_LOSS is --loss of `train`. Click takes the name of the parameter in the code, which is another one for
    some options; that one works as well.
    """
    command.context_class = HelpContext
    prefix = _variable(prefix)
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None:
            long = next((text for text in option.opts if text.startswith("--")), "")
            option.envvar = f"{prefix}_{_variable(long[2:])}" if long else None
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            for name in command.list_commands(ctx):
                if inner := command.get_command(ctx, name):
                    prepare(inner, f"{prefix}_{name}")


def _variable(name: str) -> str:
    """A name as a part of the name of an environment variable."""
    return re.sub(r"\W", "_", name).upper()
