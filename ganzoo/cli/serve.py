"""ganzoo serve."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.output import log
from ganzoo.cli.server_options import announcement, server_options, warn_of_strangers
from ganzoo.contract.errors import UsageError

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
    from ganzoo.server.running import guarded, listen, require_packages, run_server

    if not directory.is_dir():
        raise UsageError(f"There is no directory {directory}: name a run or a folder of runs.")
    require_packages("serve")
    from ganzoo.reports.page import content_security_policy, page_data, render
    from ganzoo.server.live import LiveReport

    report = LiveReport(directory, page_data, render, content_security_policy, log)
    listener = listen(host, port, _PORT)
    warn_of_strangers(host)
    announce = announcement("The report follows the runs at this address.")
    run_server(guarded(report.starlette(), host, names), listener, announce, open_browser, report.stop)
