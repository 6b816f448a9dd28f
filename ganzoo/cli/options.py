"""What several commands share: names that complete, options given as key=value, tables, and talk on stderr."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.errors import UsageError
from ganzoo.contract.paths import absolute_path

if TYPE_CHECKING:
    import torch


_Command = TypeVar("_Command", bound=Callable[..., Any])


class PartParam(click.ParamType):
    """A part by name with options, `mnist:size=32`, or a location, `./file.py:Class`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Choice:
        """The Choice that `value` names."""
        return Choice.parse(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names from metadata; nothing is imported."""
        from ganzoo.registry.zoo import zoo

        return [CompletionItem(name) for name in zoo().names(self.kind) if name.startswith(incomplete)]


class Shape(click.ParamType):
    """ROWSxCOLUMNS."""

    name = "RxC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(rows, columns)."""
        from ganzoo.contract.recipe import Recipe

        return value if isinstance(value, tuple) else Recipe(grid=value).grid_shape


def _use_data_dir(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is None:
        return
    value = absolute_path(value)
    # a folder named by the environment may be made by the first download; one typed here is meant to be there
    typed = ctx.get_parameter_source("data_dir") is ParameterSource.COMMANDLINE
    if (typed or value.exists()) and not value.is_dir():
        raise click.BadParameter(f"there is no directory {value}.", ctx, param)
    os.environ["GANZOO_DATA"] = str(value)


def data_dir_option(command: _Command) -> _Command:
    """--data-dir, for this process and those it starts."""
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
    """--inception-weights, for this process and those it starts."""
    return click.option(
        "--inception-weights",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        expose_value=False,
        callback=_use_inception_weights,
        envvar="GANZOO_INCEPTION_WEIGHTS",
        show_envvar=True,
        metavar="FILE",
        help="The Inception-v3 weights of FID, where they are not to be fetched.",
    )(command)


def seeds_option(command: _Command) -> _Command:
    """--seeds, given once or several times: one text for `parse_seeds`."""
    return click.option(
        "--seeds",
        multiple=True,
        default=("0,1,2",),
        metavar="0,1,2|0..4",
        callback=lambda ctx, param, value: ",".join(value),
        help="A training for each.  [default: 0,1,2]",
    )(command)


def json_option(command: _Command) -> _Command:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print facts as JSON on stdout.")(command)


def device_option(default: str | None = "auto") -> Callable[[_Command], _Command]:
    """--device."""
    return click.option(
        "--device",
        default=default,
        metavar="auto|cpu|cuda|cuda:N",
        show_default=default is not None,
        help="Where to compute.",
    )


class At(click.ParamType):
    """A number of images seen, or the word best."""

    name = "IMAGES|best"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or "best"."""
        return "best" if value == "best" else click.IntRange(0).convert(value, param, ctx)


def at_option(command: _Command) -> _Command:
    """--at."""
    help = "The generator saved at this many images seen, or the best one scored in training.  [default: the newest]"
    return click.option("--at", type=At(), metavar="IMAGES|best", help=help)(command)


def changed_code_option(command: _Command) -> _Command:
    """--accept-changed-code."""
    return click.option(
        "--accept-changed-code", "changed_code", is_flag=True, help="Go on although a part's file has changed."
    )(command)


def changed_images_option(command: _Command) -> _Command:
    """--accept-changed-images."""
    return click.option(
        "--accept-changed-images", "changed_images", is_flag=True, help="Go on although the images have changed."
    )(command)


def run_argument(command: _Command) -> _Command:
    """RUN, the directory of a run."""
    return click.argument("run", type=click.Path(path_type=Path))(command)


def device_named(name: str) -> torch.device:
    """The torch device of a --device option."""
    from ganzoo.engine.device import find_device

    return find_device(name)


def length_of(epochs: str | None, images: str | None, steps: str | None) -> Amount | None:
    """The length that --epochs, --images or --steps gives; None without one. Raises UsageError for two of them."""
    given = [(text, unit) for text, unit in ((epochs, "epochs"), (images, "images"), (steps, "steps")) if text]
    if len(given) > 1:
        raise UsageError(f"--{given[0][1]} and --{given[1][1]} both set the length; give one of them.")
    return Amount.parse(*given[0]) if given else None


def pairs(texts: Sequence[str], option: str = "-o") -> dict[str, str]:
    """key=value texts as a dict."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text!r} is not written key=value.")
        found[key] = value
    return found


def matches(name: str, pattern: str | None) -> bool:
    """Whether a name matches a pattern with wildcards, or holds one without."""
    if not pattern:
        return True
    return fnmatch.fnmatch(name, pattern) if set(pattern) & set("*?[") else pattern in name
