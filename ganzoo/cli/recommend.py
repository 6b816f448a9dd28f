"""ganzoo recommend."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
from click.core import ParameterSource

from ganzoo.cli.options import data_dir_option, device_option, json_option
from ganzoo.cli.output import log, print_json
from ganzoo.cli.parameters import PartParam, PositiveNumber
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import UsageError


@click.command()
@click.argument("dataset", type=PartParam("datasets"))
@click.option(
    "--minutes",
    type=PositiveNumber(),
    default=30.0,
    show_default="30",
    metavar="N",
    help="Time that there is for the training.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.toml",
    help="Write the complete recipe, for `ganzoo train --recipe FILE.toml`.",
)
@device_option()
@data_dir_option
@json_option
def recommend(dataset: Choice, minutes: float, out: Path | None, device: str, as_json: bool) -> None:
    """Recommend a recipe for DATASET, and print the command that trains it.

    \b
      ganzoo recommend ./photos
      ganzoo recommend digits --minutes 5
      ganzoo recommend ./photos:size=128 --minutes 600 -o photos.toml

    The number, size, channels and classes of the images are looked at, and the device. A few steps of the recipes that
    suit them are run and timed, so that the length fits into the time. The reasons and what was measured are printed
    on stderr, the command on stdout. Nothing is trained; a file is written only with -o.
    """
    from ganzoo.api.recommend import recommend as find

    if out is not None and (out.suffix != ".toml" or not out.parent.is_dir()):
        raise UsageError(f"-o {out}: name a file that ends in .toml, in a directory that exists.")
    found = find(dataset, minutes, device=device)
    command = " ".join([found.command, *(shlex.join(words) for words in _given(device))])
    path = None if out is None else found.save(out)
    if as_json:
        return print_json(**{**found.to_dict(), "train_command": command}, path=None if path is None else str(path))
    for text in found.lines():
        log(text)
    if path is not None:
        log(f"The recipe is in {path}.")
    click.echo(command)


def _given(device: str) -> Iterator[tuple[str, str]]:
    """The options that were typed and that the training needs as well."""
    if device != "auto":
        yield "--device", device
    if click.get_current_context().get_parameter_source("data_dir") is ParameterSource.COMMANDLINE:
        yield "--data-dir", os.environ["GANZOO_DATA"]
