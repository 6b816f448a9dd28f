"""Arguments and options that several commands share. Their types are in `parameters`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ganzoo.api.keywords import length_of
from ganzoo.api.parts import matches
from ganzoo.api.terminal_pictures import no_pictures
from ganzoo.cli.help import HelpContext
from ganzoo.cli.parameters import At, KindParam, PartParam, RunParam
from ganzoo.contract.errors import UsageError
from ganzoo.contract.paths import absolute_path

if TYPE_CHECKING:
    import torch


__all__ = [
    "at_option",
    "changed_code_option",
    "changed_images_option",
    "data_dir_option",
    "device_named",
    "device_option",
    "inception_weights_option",
    "json_option",
    "kind_option",
    "launcher_option",
    "length_of",
    "matches",
    "no_pictures_option",
    "pairs",
    "run_argument",
    "seeds_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


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


def launcher_option(command: _Command) -> _Command:
    """--launcher, as a Choice."""
    return click.option(
        "--launcher",
        type=PartParam("launchers"),
        default="local",
        show_default=True,
        metavar="SPEC",
        help="Where trials run: local, ray[:address=HOST:PORT], slurm; see `ganzoo list launchers`.",
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
