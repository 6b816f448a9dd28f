"""ganzoo plot."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.options import json_option
from ganzoo.cli.output import print_json
from ganzoo.cli.parameters import RunParam, WholeNumber


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RunParam(), metavar="RUN...")
@click.option("--score", multiple=True, metavar="NAME", help="A score; several are several panels.  [default: all]")
@click.option("--stat", multiple=True, metavar="NAME", help="A key of stats.jsonl.  [default: the losses]")
@click.option("--axis", type=click.Choice(["images", "epochs", "steps"]), default="images", show_default=True)
@click.option("--smooth", type=WholeNumber(1), default=1, metavar="N", help="Moving mean of N lines of statistics.")
@click.option("--log", "log_scale", is_flag=True, help="Logarithmic y axis.")
@click.option(
    "--band",
    type=click.Choice(["range", "std"]),
    default="range",
    show_default=True,
    help="Of several seeds: lowest to highest, or one standard deviation.",
)
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True, help="Colours.")
@click.option("--title", default="", metavar="TEXT", help="Above the panels.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("plot.png"),
    show_default=True,
    metavar="FILE",
    help=".png, .svg or .pdf.",
)
@json_option
def plot(
    runs: tuple[Path, ...],
    score: tuple[str, ...],
    stat: tuple[str, ...],
    axis: str,
    smooth: int,
    log_scale: bool,
    band: str,
    theme: str,
    title: str,
    out: Path,
    as_json: bool,
) -> None:
    """Plot the losses and scores of runs and print the path of the file.

    \b
      ganzoo plot runs/a -o a.pdf                       losses, and all scores
      ganzoo plot runs/a runs/b --score fid-domain --log
      ganzoo plot my-benchmark --score fid-domain       seeds are a mean and a band
      ganzoo plot 'runs/*' --stat generator_loss --smooth 9

    RUN is a run, a benchmark, a folder of runs, or a pattern. Runs that differ only in their seed are one curve.
    """
    from ganzoo.api.plots import plot as draw
    from ganzoo.reports.figures import check_out

    check_out(out)
    figure = draw(
        *runs,
        score=score,
        stat=stat,
        axis=axis,  # type: ignore[arg-type]
        smooth=smooth,
        log_scale=log_scale,
        band=band,  # type: ignore[arg-type]
        theme=theme,  # type: ignore[arg-type]
        title=title,
    )
    figure.save(out)
    if as_json:
        print_json(runs=[str(run) for run in runs], path=str(out))
    else:
        click.echo(out)
