"""ganzoo compare: runs that exist, side by side."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click

from ganzoo.cli.options import data_dir_option, json_option
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.parameters import RunParam, WholeNumber


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RunParam(), metavar="RUN RUN...")
@click.option("--format", "form", type=click.Choice(["table", "md", "csv"]), default="table", show_default=True)
@click.option(
    "-o",
    "--out",
    "out",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page with scores, curves, samples and recipes side by side.",
)
@click.option(
    "--resample",
    type=WholeNumber(2, 1000),
    metavar="N",
    help="First score each run on N choices of fakes, where it has fewer: these give intervals.",
)
@data_dir_option
@json_option
def compare(runs: tuple[Path, ...], form: str, out: Path | None, resample: int | None, as_json: bool) -> None:
    """Compare runs that exist: their scores side by side, and the difference of each to the first.

    \b
      ganzoo compare runs/a runs/b
      ganzoo compare runs/a runs/b runs/c -o compare.html
      ganzoo compare runs/a runs/b --resample 5     with intervals over five choices of fakes

    Only scores that were measured in the same way stand in one row. A value is that of the newest generator, followed
    by the best one. Where a run was scored on several choices of fakes (--resample, or `ganzoo evaluate --seed N`), the
    brackets hold the 95 % bootstrap interval of the mean over them; `better` and `worse` stand only where a difference
    is larger than that spread. --resample keeps its scores in the runs, and computes only those that are missing.
    """
    from ganzoo.api.report import compare as compare_runs
    from ganzoo.reports.side_by_side import texts

    found = compare_runs(*runs, draw=out is not None, resample=resample or 0)
    if out is not None:
        found.save(out)
    if as_json:
        print_json(runs=found.runs, scores=list(found), path=None if out is None else str(out))
        return
    head, lines = texts(found, found.runs)
    if not lines:
        log("No run has a score; compute some with `ganzoo evaluate RUN`.")
    elif form == "table":
        print_table(head, lines)
    elif form == "md":
        rows = [head, ["---"] * len(head), *lines]
        click.echo("\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows))
    else:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *lines])
        click.echo(text.getvalue(), nl=False)
    if form == "table" and any(None in row["values"] for row in found):
        log("A dash: that run has no score that was measured so.")
    if out is not None:
        click.echo(out)
