"""ganzoo benchmark: many trainings and their scores in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ganzoo.api.progress import duration
from ganzoo.api.studies import set_or_axis, split_values, study_of, values_by_axis
from ganzoo.cli.help import SectionedCommand
from ganzoo.cli.options import (
    data_dir_option,
    device_named,
    device_option,
    inception_weights_option,
    json_option,
    length_of,
    seeds_option,
)
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.parameters import PartParam, PositiveNumber, WholeNumber
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError, counted
from ganzoo.contract.protocol import PROTOCOLS
from ganzoo.contract.recipe import PRECISIONS

if TYPE_CHECKING:
    from ganzoo.experiments.estimate import Pair
    from ganzoo.experiments.grid import Trial

_Command = TypeVar("_Command", bound=Callable[..., Any])
#: number of columns that fit a terminal; the files have all of them
_TERMINAL_COLUMNS = 6
#: axes that have an option of their own
_AXES = ("loss", "penalty", "augmentation", "batch_size")


def _part_option(flag: str, kind: str, what: str) -> Callable[[_Command], _Command]:
    return click.option(
        flag, f"--{kind.removesuffix('s')}", kind, multiple=True, type=PartParam(kind), metavar="SPEC", help=what
    )


def _axis_option(flag: str, what: str, metavar: str = "SPEC") -> Callable[[_Command], _Command]:
    return click.option(flag, multiple=True, metavar=metavar, help=f"{what} Several are an axis.")


@click.command(
    cls=SectionedCommand,
    sections={
        "The grid": "-a -d --seeds --recipe --epochs --images --steps --precision",
        "Axes": "--loss --penalty --augmentation --batch-size --set",
        "Scores": "-e --protocol --samples --score-every --calibrate --inception-weights",
        "How it runs": "--device --jobs --launcher --patience --retry-failed --data-dir",
        "Output": "--out --dry-run --verify --json --help",
    },
)
@click.argument("study", required=False, type=click.Path(path_type=Path), metavar="[STUDY.toml]")
@_part_option("-a", "architectures", "An architecture; several are compared.")
@_part_option("-d", "datasets", "A dataset; each is trained on by each architecture.")
@_part_option("-e", "evaluators", "What the generators are scored by.  [default: fid-domain]")
@seeds_option
@click.option("--epochs", metavar="N", help="Length of every run in epochs.  [default: of the protocol, or the recipe]")
@click.option("--images", metavar="N", help="Length of every run in images.")
@click.option("--steps", metavar="N", help="Length of every run in steps.")
@click.option("--recipe", metavar="FILE.toml|NAME", help="For every architecture: a file, or the name of a variant.")
@_axis_option("--loss", "A loss, or several joined by ' + '.")
@_axis_option("--penalty", "A penalty that is added to the losses, or none.")
@_axis_option("--augmentation", "An augmentation, or none.")
@_axis_option("--batch-size", "Images of a batch.", "N[,N...]")
@click.option("--set", "settings", multiple=True, metavar="FIELD=A[,B...]", help="Any field, generator_optimizer.lr.")
@click.option("--protocol", type=click.Choice(list(PROTOCOLS)), help="How scores are measured.")
@click.option("--samples", type=WholeNumber(2), metavar="N", help="Fakes a score.  [default: the protocol's]")
@click.option("--score-every", metavar="N", help="Interval of scores.  [default: a quarter of the length]")
@click.option("--precision", type=click.Choice(PRECISIONS), help="bf16: autocast, float32 weights and losses.")
@device_option()
@click.option(
    "--jobs",
    type=WholeNumber(1),
    metavar="N",
    help="Trials at a time; they share the CPU cores.  [default: 1; on a cluster as many as fit]",
)
@click.option(
    "--launcher",
    type=PartParam("launchers"),
    default="local",
    show_default=True,
    metavar="SPEC",
    help="Where trials run: local, ray[:address=HOST:PORT], slurm; see `ganzoo list launchers`.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the runs and the table go.  [default: benchmark; with --verify, `verify` beside the table]",
)
@click.option(
    "--calibrate", "scale", is_flag=True, help="Add the scale of each score: the scores of corrupted real images."
)
@click.option(
    "--patience",
    type=PositiveNumber(),
    default=12.0,
    show_default=True,
    metavar="HOURS",
    help="A trial that writes nothing for so long has failed.",
)
@click.option("--retry-failed", is_flag=True, help="Run failed trials again, from the beginning.")
@click.option("--dry-run", is_flag=True, help="Print the plan and the estimated time, and stop.")
@click.option(
    "--verify",
    "table",
    type=click.Path(path_type=Path),
    metavar="TABLE.json",
    help="Run the trials of this table again, and print which rows hold.",
)
@inception_weights_option
@data_dir_option
@json_option
@click.pass_context
def benchmark(
    ctx: click.Context,
    /,
    study: Path | None,
    settings: tuple[str, ...],
    epochs: str | None,
    images: str | None,
    steps: str | None,
    device: str,
    jobs: int | None,
    launcher: Choice,
    out: Path | None,
    scale: bool,
    patience: float,
    retry_failed: bool,
    dry_run: bool,
    table: Path | None,
    as_json: bool,
    **changes: Any,
) -> None:
    """Train every architecture on every dataset with every seed, and put the scores into one table.

    \b
      ganzoo benchmark -a dcgan-tutorial -a mlp-vanilla -d digits --seeds 0..4 --epochs 20
      ganzoo benchmark -a 'dcgan*' -d mnist -d fashion-mnist -e fid-domain -e precision-recall --jobs 2
      ganzoo benchmark -a dcgan-tutorial:width=32 -d mnist --protocol lucic2018 --dry-run
      ganzoo benchmark -a mlp-vanilla -d digits --loss hinge --loss nonsaturating --set generator_optimizer.lr=1e-4,2e-4
      ganzoo benchmark study.toml --jobs 2
      ganzoo benchmark --verify benchmark/table.json

    A study file holds the grid with its axes, named rows and exclusions; options replace what it sets. A SPEC is
    NAME[:key=value,...], with or without wildcards, or a location. A trial is one training: an architecture, a dataset,
    a value of each axis and a seed. Each trial has a process of its own, and its run is in DIR/runs. A trial that fails
    is counted with its reason, and the others go on. The same command again runs the missing trials and resumes the
    interrupted ones. After every trial the table is written to DIR/table.json, .csv, .md and .png. It has the mean and
    the standard deviation over the seeds, of the last generator and of the best.

    --verify: a row holds if it was measured alike and its new mean lies in the old bootstrap interval widened by half
    the new one, or within 2 pooled standard deviations; with a single seed, within 25 % of the old value.
    """
    if ctx.get_parameter_source("seeds") is ParameterSource.DEFAULT:
        changes["seeds"] = ""  # so that those of the study count
    given = {name: value for name, value in changes.items() if value not in (None, (), "")}
    given |= {length.unit: length.count} if (length := length_of(epochs, images, steps)) else {}
    options: dict[str, Any] = {"jobs": jobs, "launcher": launcher, "retry_failed": retry_failed, "scale": scale}
    options["patience"] = 3600 * patience
    if table is not None:
        if study or settings or dry_run or set(given) - {"seeds"}:
            raise UsageError(
                "--verify takes the grid from its table; leave out all options of the training and the scores."
            )
        _verify(table, out or table.parent / "verify", device, as_json, **options)
        return
    trials = _plan(study, given, settings, out or Path("benchmark"))
    if dry_run:
        _show_plan(trials, out or Path("benchmark"), device, jobs or 1, as_json)
        return
    _run_and_show(trials, out or Path("benchmark"), device, as_json, **options)


def _plan(study: Path | None, given: dict[str, Any], settings: Sequence[str], out: Path) -> list[Trial]:
    from ganzoo.experiments.grid import named_as_in, plan_study
    from ganzoo.registry.zoo import zoo

    axes = {name: [word for text in given.pop(name, ()) for word in split_values(name, text)] for name in _AXES}
    for name, values in values_by_axis(settings).items():
        axes[name] = [*axes.get(name, []), *values]
    found = study_of(study, {**given, **set_or_axis(axes)})
    return named_as_in(plan_study(zoo(), found), out)


def _run(trials: list[Trial], out: Path, device: str, **options: Any) -> list[dict[str, Any]]:
    from ganzoo.cli.grid_console import GridConsole
    from ganzoo.experiments.run_grid import benchmark as run_benchmark
    from ganzoo.registry.zoo import zoo

    device_named(device)  # refuse a missing device once, instead of in every trial
    with GridConsole(trials, out) as console:
        return run_benchmark(
            zoo(), trials, out, device, on_progress=console.on_progress, note=console.message, **options
        )


def _run_and_show(trials: list[Trial], out: Path, device: str, as_json: bool, **options: Any) -> None:
    rows = _run(trials, out, device, **options)
    print_json(path=str(out), rows=rows) if as_json else show_rows(rows)
    log(f"Table: {out / 'table.md'}, .json, .csv and .png")
    if any(row["failures"] for row in rows):
        log("Some trials failed and are counted as failures; --retry-failed runs them again, from the beginning.")
    if not any(row["seeds"] for row in rows):
        raise GanzooError("No trial has finished; see the reasons above.")


def show_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows of a table, a table for each dataset and score."""
    from ganzoo.results.report.tables import sections_of

    for section in sections_of(rows):
        width = _TERMINAL_COLUMNS + len(section.axes)
        print_table(section.columns[:width], [row[:width] for row in section.cells], section.title)
        click.echo("\n".join(section.notes) + "\n")


def _show_plan(trials: list[Trial], out: Path, device: str, jobs: int, as_json: bool) -> None:
    from ganzoo.experiments.estimate import estimate_pairs
    from ganzoo.experiments.folder import Folder
    from ganzoo.registry.zoo import zoo

    pairs = estimate_pairs(zoo(), trials, Folder(out), device_named(device))
    total = sum((pair.seconds or 0.0) * pair.missing for pair in pairs) / jobs
    if not as_json:
        _print_plan(pairs)
        missing = sum(pair.missing for pair in pairs)
        log(
            f"{missing} of {counted(len(trials), 'trial')} to run in {out}, about {duration(total)} with {jobs} at a "
            f"time."
        )
        if missing:
            log(
                "Not included: the start of each process, the scoring of pairs without a finished trial, and, once per "
                "dataset, its extractor and the scores of its real images."
            )
        return
    facts = [
        {
            "architecture": pair.trials[0].architecture,
            "dataset": pair.trials[0].dataset,
            "row": pair.trials[0].row,
            "axes": dict(pair.trials[0].axes),
            "trials": [trial.name for trial in pair.trials],
            "done": pair.done,
            "failed": pair.failed,
            "missing": pair.missing,
            "recipe": pair.trials[0].recipe.to_dict(),
            "seconds": pair.seconds,
            "seconds_from": pair.source,
        }
        for pair in pairs
    ]
    print_json(path=str(out), pairs=facts, seconds=total)


def _print_plan(pairs: Sequence[Pair]) -> None:
    from ganzoo.results.report.tables import axis_cells, axis_columns

    firsts = [{"row": pair.trials[0].row, "axes": pair.trials[0].axes} for pair in pairs]
    axes = axis_columns(firsts)
    columns = ["architecture", "dataset", *axes, "seeds", "done", "failed", "missing"]
    columns += ["length", "batch", "precision", "a trial"]
    rows = []
    for pair, first in zip(pairs, firsts, strict=True):
        chosen = pair.trials[0].recipe
        seeds = ",".join(str(trial.recipe.seed) for trial in pair.trials)
        counts = [str(count) for count in (pair.done, pair.failed, pair.missing)]
        each = pair.source if pair.seconds is None else f"{duration(pair.seconds)} ({pair.source})"
        numbers = [str(chosen.length), str(chosen.batch_size), chosen.precision]
        names = pair.trials[0].architecture, pair.trials[0].dataset
        rows.append([*names, *axis_cells(first, axes), seeds, *counts, *numbers, each])
    print_table(columns, rows)


def _verify(table: Path, out: Path, device: str, as_json: bool, **options: Any) -> None:
    from ganzoo.experiments import verify
    from ganzoo.registry.zoo import zoo
    from ganzoo.results.report.tables import label

    if out.resolve() == table.resolve().parent:
        raise UsageError(
            f"--out {out} holds the trials of the table, which would not be run again: name another folder."
        )
    old = verify.read_table(table)
    trials = verify.trials_of(zoo(), old, table)
    found = verify.verdicts(old, _run(trials, out, device, **options))
    if as_json:
        print_json(path=str(out), table=str(table), verdicts=found)
    else:
        columns = ["architecture", "dataset", "score", "then", "now", "seeds", "holds", "why"]
        rows = [
            [
                label(verdict, found),
                *(verdict[name] for name in ("dataset", "score")),
                f"{verdict['then']:.4g}",
                "-" if verdict["now"] is None else f"{verdict['now']:.4g}",
                f"{verdict['seeds']} of {verdict['seeds_then']}",
                "yes" if verdict["holds"] else "no",
                verdict["why"],
            ]
            for verdict in found
        ]
        print_table(columns, rows)
        log(verify.RULE)
    failures = sum(not verdict["holds"] for verdict in found)
    if failures:
        raise GanzooError(f"{failures} of {counted(len(found), 'row')} {'does' if failures == 1 else 'do'} not hold.")
