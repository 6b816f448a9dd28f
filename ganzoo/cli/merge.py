"""ganzoo merge: benchmarks of several machines or people in one table."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.options import json_option
from ganzoo.cli.output import log, print_json
from ganzoo.contract.errors import GanzooError, counted


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder for the result."
)
@json_option
def merge(folders: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Join benchmarks of several machines or people in one folder with one table.

    \b
      ganzoo merge from-alice from-bob -o merged
      ganzoo report merged

    Each DIR is the folder of a benchmark. Finished and failed trials are copied, without checkpoints. A row holds the
    seeds of one recipe, measured in one way: a row with another card than the same score of the same dataset in an
    earlier DIR is refused, and a trial that two folders have with different scores. The other rows are joined, each
    refusal is a sentence, and the exit status is 1. Different versions of ganzoo and torch are columns of the table.
    """
    from ganzoo.api.merging import merge as join
    from ganzoo.cli.benchmark import show_rows

    found = join(folders, out=out)
    if as_json:
        print_json(path=str(out), rows=list(found), refused=found.refused, trials=sum(found.trials.values()))
    else:
        show_rows(found)
    log(f"{counted(sum(found.trials.values()), 'trial')} of {counted(len(folders), 'folder')}: {out / 'table.md'}")
    if found.refused:
        raise GanzooError(f"{counted(len(found.refused), 'row')} not joined, see above; the others are in {out}.")
