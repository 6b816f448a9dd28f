"""ganzoo explore."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.options import changed_code_option, data_dir_option, device_option, run_argument
from ganzoo.cli.output import log
from ganzoo.cli.parameters import PartParam
from ganzoo.cli.server_options import announcement, server_options, warn_of_strangers
from ganzoo.contract.choice import Choice

#: the port that is tried first
_PORT = 8430


@click.command()
@run_argument
@click.option(
    "--extractor",
    type=PartParam("extractors"),
    metavar="SPEC",
    help="Find the nearest training images also by the features of this extractor, such as domain.",
)
@server_options(_PORT)
@changed_code_option
@data_dir_option
@device_option()
def explore(
    run: Path,
    extractor: Choice | None,
    host: str,
    port: int | None,
    names: tuple[str, ...],
    open_browser: bool,
    changed_code: bool,
    device: str,
) -> None:
    """Show a page on which you move through what the generator of RUN has learned, and print its address.

    \b
      ganzoo explore runs/a --open
      ganzoo explore runs/a --extractor domain    nearest training images by features

    The page draws images by seed, walks between them, and moves along the strongest directions of the latents, with
    the generator of any epoch that was kept. It only reads the run, and only this machine can reach it.
    """
    from ganzoo.server.pages import explore_page

    page = explore_page(run, device, extractor, host, port, names, changed_code, log)
    warn_of_strangers(host)
    page.run(announcement("The page of this run is at this address."), open_browser)
