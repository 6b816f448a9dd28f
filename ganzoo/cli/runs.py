"""ganzoo runs: list the runs of a folder, remove some, put some into an archive."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ganzoo.cli.options import json_option
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.parameters import RunParam
from ganzoo.contract.errors import UsageError, counted

if TYPE_CHECKING:
    from ganzoo.api.runs import RunList

#: columns that are left out where the table is wider than the terminal, the first one first
_SPARED = ("dataset", "architecture", "size", "last score", "age")
_STATES = ("training", "finished", "interrupted", "imported", "diverged", "damaged")
_SORTS = ("path", "age", "size", "score", "length", "state", "architecture", "dataset")
_SUBCOMMAND = "ganzoo.cli.runs.subcommand"


class _Runs(click.Group):
    """Lists the runs of a DIR where the first word is no subcommand: then it is parsed like a command without any."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_SUBCOMMAND] = bool(args) and args[0] in self.commands
        if ctx.meta[_SUBCOMMAND]:
            return super().parse_args(ctx, args)
        ctx.allow_interspersed_args, ctx.allow_extra_args = True, False
        return click.Command.parse_args(self, ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        found = super().get_params(ctx)
        return [each for each in found if each.name == "help"] if ctx.meta.get(_SUBCOMMAND) else found

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return click.Command.collect_usage_pieces(self, ctx)


class _Folder(click.Path):
    """The folder of `ganzoo runs`; completes folders, and the subcommands that could stand in its place."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name) for name in ("rm", "archive") if incomplete and name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="dir")]


@click.group("runs", cls=_Runs, invoke_without_command=True)
@click.argument("directory", metavar="[DIR]", type=_Folder(path_type=Path), required=False)
@click.option(
    "--state", type=click.Choice(_STATES), metavar="STATE", help=f"Only runs in this state: {', '.join(_STATES)}."
)
@click.option("-a", "--architecture", metavar="NAME", help="Only this architecture: a name, part of one, or a pattern.")
@click.option("-d", "--dataset", metavar="NAME", help="Only this dataset: a name, part of one, or a pattern.")
@click.option(
    "--sort",
    type=click.Choice(_SORTS),
    metavar="COLUMN",
    default="path",
    show_default=True,
    help="path, age (newest first), size (largest first), score (best first), length, state, architecture, dataset.",
)
@json_option
@click.pass_context
def runs(
    ctx: click.Context,
    directory: Path | None = None,
    state: str | None = None,
    architecture: str | None = None,
    dataset: str | None = None,
    sort: str = "path",
    as_json: bool = False,
) -> None:
    """List the runs in DIR (./runs if none is named) and up to four folders below it.

    \b
      ganzoo runs
      ganzoo runs benchmark --sort score
      ganzoo runs --state interrupted
      ganzoo runs rm runs/a runs/b
      ganzoo runs archive runs/a -o a.zip --light

    A run is `training` while a process writes it, `finished` with its whole length, `interrupted` before that,
    `imported` with the weights of another program and no training yet, `diverged` where its numbers were not finite,
    and `damaged` where its files cannot be read.
    """
    if ctx.invoked_subcommand is not None:
        return
    from ganzoo.api.runs import runs as list_runs

    if directory is None and not Path("runs").exists():
        directory = Path()  # the user may stand in the folder of the runs
    found = list_runs(directory or "runs", state=state, architecture=architecture, dataset=dataset, sort=sort)
    if as_json:
        return print_json(path=str(directory or "runs"), runs=list(found))
    _print_runs(found, directory or Path("runs"))


def _print_runs(found: RunList, directory: Path) -> None:
    """The table of the runs; in a terminal as many of its columns as fit."""
    from ganzoo.api.runs import COLUMNS, cells

    if not found:
        return log(f"No such run in {directory if directory != Path() else 'this folder'}.")
    columns, rows = list(COLUMNS), [cells(run) for run in found]
    if sys.stdout.isatty():
        for spared in _SPARED:
            widths = [max(map(len, texts)) for texts in zip(columns, *rows, strict=True)]
            if sum(widths) + 2 * len(columns) <= shutil.get_terminal_size().columns:
                break
            place = columns.index(spared)
            columns, rows = _without(columns, place), [_without(row, place) for row in rows]
    print_table(columns, rows)
    for run in found:
        if run["reason"] and run["state"] in ("damaged", "diverged"):
            log(f"{run['run']} {'has diverged' if run['state'] == 'diverged' else 'is damaged'}: {run['reason']}")


def _without(row: Sequence[str], place: int) -> list[str]:
    return [text for each, text in enumerate(row) if each != place]


@runs.command("rm", short_help="Remove runs, after a question.")
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=RunParam())
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def remove(paths: tuple[Path, ...], yes: bool, as_json: bool) -> None:
    """Remove each RUN with everything in its directory, after a question.

    \b
      ganzoo runs rm runs/a
      ganzoo runs rm runs/a runs/b --yes

    A directory that holds no run, a link, and a run that another process writes are refused, and then nothing is
    removed.
    """
    from ganzoo.results.runs import foreign_files, refuse_unsafe, remove_run, run_facts, size_in_words

    chosen = list(dict.fromkeys(paths))
    for path in chosen:
        refuse_unsafe(path, "removed")
    total = size_in_words(sum(run_facts(path)["bytes"] for path in chosen))
    for path in chosen:
        if others := foreign_files(path):
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            log(f"{path} also holds what no training has written: {', '.join(others[:5])}{more}.")
    what = str(chosen[0]) if len(chosen) == 1 else counted(len(chosen), "run")
    if not yes:
        click.confirm(f"Remove {what} ({total})?", abort=True, err=True)
    removed = sum(remove_run(path) for path in chosen)
    if as_json:
        return print_json(runs=list(map(str, chosen)), bytes=removed)
    log(f"Removed {what} ({total}).")


@runs.command("archive", short_help="Write runs into a .tar.gz or .zip file.")
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=RunParam())
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.tar.gz|zip",
    help="The file.  [default: RUN.tar.gz; runs.tar.gz of several]",
)
@click.option("--light", is_flag=True, help="Without checkpoints: to look at, sample and score, but not to resume.")
@json_option
def archive(paths: tuple[Path, ...], out: Path | None, light: bool, as_json: bool) -> None:
    """Write each RUN into one archive and print its path. The runs stay where they are.

    \b
      ganzoo runs archive runs/a
      ganzoo runs archive runs/a runs/b -o both.zip --light

    Every file is compared with the archive after it is written. The same runs make the same bytes. Links and hidden
    files are left out. To use a run of the archive, unpack it: `tar xzf a.tar.gz`.
    """
    from ganzoo.results.archive import archive_runs

    if len(set(paths)) < len(paths):
        raise UsageError("A run is named twice.")
    facts: dict[str, Any] = archive_runs(paths, out, light, log)
    if as_json:
        return print_json(**facts, light=light)
    click.echo(facts["path"])
