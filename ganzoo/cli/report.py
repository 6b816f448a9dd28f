"""ganzoo report: a page, a table or data on runs and benchmarks."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.options import data_dir_option, json_option
from ganzoo.cli.output import log, print_json
from ganzoo.cli.parameters import PositiveNumber, RunParam
from ganzoo.contract.errors import UsageError

#: the formats that go to stdout if no file is named
_FORMATS = ("html", "md", "csv", "json", "latex")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=RunParam(), metavar="PATH...")
@click.option(
    "-o",
    "--out",
    "out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=".html, .md, .csv, .json or .tex.  [default: report.html; the other formats go to stdout]",
)
@click.option("--format", "form", type=click.Choice(_FORMATS), help="[default: by the suffix of -o, else html]")
@click.option(
    "--draw/--no-draw",
    default=None,
    help="Draw with the newest generators: interpolations, classes, nearest training images.  [default: of up to 36 "
    "runs]",
)
@click.option(
    "--draw-seconds", type=PositiveNumber(), default=60.0, show_default=True, metavar="N", help="Time for drawing."
)
@data_dir_option
@json_option
def report(
    paths: tuple[Path, ...], out: Path | None, form: str | None, draw: bool | None, draw_seconds: float, as_json: bool
) -> None:
    """Write a report on runs, benchmarks, and folders of them, and print the path of the file.

    \b
      ganzoo report runs                      every run below runs/, as report.html
      ganzoo report benchmark -o table.html   a benchmark
      ganzoo report runs/a runs/b --no-draw
      ganzoo report benchmark --format latex

    The page is one file that needs no network: a leaderboard with the mean and the spread over seeds, samples side by
    side, curves, comparisons, and for each run its film, recipe, environment and the command that trains it again.
    Scores that were measured in different ways never stand in one column. A directory that cannot be read is listed
    with the reason.
    """
    from ganzoo.api.report import report as write_report
    from ganzoo.api.report import report_text

    if out is None and form not in (None, "html"):
        if as_json:
            raise UsageError("--json prints where the report is: name its file with -o.")
        click.echo(report_text(paths, form or "html"), nl=False)
        return
    path = write_report(*paths, out=out or Path("report.html"), format=form, draw=draw, draw_seconds=draw_seconds)
    size = path.stat().st_size
    if as_json:
        print_json(path=str(path), format=form or path.suffix.lstrip(".").lower(), bytes=size)
        return
    click.echo(path)
    if path.suffix == ".html":
        log(f"{size / 1e6:.1f} MB; open it in a browser.")
