"""ganzoo watch: follow a run that another process trains."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.options import no_pictures_option, run_argument
from ganzoo.cli.output import log


@click.command()
@run_argument
@click.option("-v", "--verbose", is_flag=True, help="Name every file that is written.")
@no_pictures_option
@click.pass_context
def watch(ctx: click.Context, run: Path, verbose: bool) -> None:
    """Follow RUN while another process trains it, with the lines that the training itself shows.

    \b
      ganzoo watch runs/a
      ganzoo watch runs/a && ganzoo evaluate runs/a

    It ends when the training ends: with status 0 if the run is finished, else 1. Ctrl-C ends only the watching; the
    training goes on. Nothing of the run is changed.
    """
    from ganzoo.api.watch import watch as follow

    try:
        state = follow(run, verbose=verbose)
    except KeyboardInterrupt:
        log(f"No longer watching {run}. The training goes on.")
        ctx.exit(130)
    log(f"{run} is {state}." if state != "diverged" else f"{run} has diverged.")
    ctx.exit(0 if state == "finished" else 1)
