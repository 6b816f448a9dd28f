"""ganzoo tune: search a better recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ganzoo.cli.options import data_dir_option, device_option, inception_weights_option, json_option
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.parameters import PartParam, PositiveNumber, WholeNumber


@click.command()
@click.argument("study", type=click.Path(path_type=Path), metavar="STUDY.toml")
@click.option("--trials", type=WholeNumber(1), default=20, show_default=True, metavar="N", help="Trials of the search.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("tune"), show_default=True, metavar="DIR",
    help="Where the runs, the winner and its scores go.",
)  # fmt: skip
@click.option("--seed", type=WholeNumber(0), default=0, show_default=True, help="Of the sampler that proposes values.")
@click.option("--check-seeds", metavar="0,1,2|0..4", help="Of the second scoring.  [default: three others]")
@click.option(
    "--score-every", metavar="N", help="Interval of scores, by which trials are pruned.  [default: a quarter]"
)
@device_option()
@click.option("--jobs", type=WholeNumber(1), help="Trials at a time.  [default: the launcher's]")
@click.option(
    "--launcher",
    type=PartParam("launchers"),
    default="local",
    show_default=True,
    metavar="SPEC",
    help="Where trials run: local, ray[:address=HOST:PORT], slurm.",
)
@click.option(
    "--patience", type=PositiveNumber(), default=12.0, show_default=True, metavar="HOURS",
    help="A trial that writes nothing for so long has failed.",
)  # fmt: skip
@inception_weights_option
@data_dir_option
@json_option
def tune(study: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Search values of a recipe that give a better score, and score the winner on other seeds.

    \b
      ganzoo tune examples/tune.toml --trials 20
      ganzoo train mlp-vanilla digits --recipe tune/winner.toml

    The study names an architecture and a dataset, and below [space] the fields that may change: ranges and choices.
    Values are proposed by the TPE sampler of optuna, first those of the default recipe. A trial whose scores during the
    training are worse than the median of the others is stopped. The direction is the one of the score. The winner is
    written to DIR/winner.toml. Then it is trained and scored beside the default recipe, with seeds that the search has
    not used. The same command again goes on with a search that was stopped or killed.
    """
    from ganzoo.api.tuning import tune as run

    found = run(study, out=out, **options)
    check = [row for row in found.check if row["score"] == found.score]
    if as_json:
        facts = {"score": found.score, "better": found.better, "best": found.best, "winner": str(found.winner)}
        print_json(path=str(out), trials=found.trials, **facts, rows=found.check)
        return
    names = list(found.best["params"])
    rows = [
        [str(one["number"]), *(_text(one["params"].get(name)) for name in names), _outcome(one)] for one in found.trials
    ]
    print_table(["trial", *names, found.score], rows)
    for row in check:
        spread = "" if row["std"] is None else f" ± {row['std']:.2g}"
        value = "no score" if row["mean"] is None else f"{row['mean']:.4g}{spread}"
        log(f"{row['row']}: {found.score} {value} over the seeds {', '.join(map(str, row['finished']))}")
    log(f"Winner: trial {found.best['number']}, {found.winner}")


def _text(value: Any) -> str:
    from ganzoo.results.report.tables import axis_text

    return axis_text(value)


def _outcome(one: dict[str, Any]) -> str:
    return f"{one['value']:.4g}" if one["state"] == "finished" else str(one["state"])
