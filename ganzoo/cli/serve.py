"""ganzoo serve."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.output import log
from ganzoo.cli.server_options import announcement, server_options, warn_of_strangers

#: the port that is tried first
_PORT = 8420


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@server_options(_PORT)
def serve(directory: Path, host: str, port: int | None, names: tuple[str, ...], open_browser: bool) -> None:
    """Show the page of `ganzoo report DIR` in the browser, keep it up to date, and print its address.

    \b
      ganzoo serve runs --open
      ganzoo serve runs/a

    DIR is a run, a benchmark or a folder of them, and may still be empty. The page only reads DIR, follows no link out
    of it, and only this machine can reach it.
    """
    from ganzoo.server.pages import report_page

    page = report_page(directory, host, port, names, log)
    warn_of_strangers(host)
    page.run(announcement("The report follows the runs at this address."), open_browser)
