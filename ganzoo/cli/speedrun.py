"""ganzoo speedrun: how long a training takes until a score reaches a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ganzoo.api.displays import progress_observers
from ganzoo.cli.options import (
    data_dir_option,
    device_option,
    inception_weights_option,
    json_option,
    length_of,
    seeds_option,
)
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.parameters import PartParam, WholeNumber
from ganzoo.cli.recipe_options import (
    execution_options,
    length_options,
    recipe_from_options,
    recipe_options,
    run_options,
)
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, counted
from ganzoo.contract.protocol import PROTOCOLS
from ganzoo.contract.recipe import PRECISIONS


@click.command()
@click.argument("dataset", type=PartParam("datasets"))
@click.option(
    "--target", required=True, metavar="SCORE<=X", help="The score that ends a run; >= where higher is better."
)
@click.option(
    "-a",
    "--architecture",
    "architecture",
    type=PartParam("architectures"),
    default="dcgan-atienza-book",
    show_default=True,
    metavar="SPEC",
    help="The architecture.",
)
@recipe_options
@click.option(
    "-e",
    "--evaluator",
    "evaluator",
    type=PartParam("evaluators"),
    metavar="SPEC",
    help="The evaluator of the score.  [default: found by the score]",
)
@seeds_option
@click.option("--score-every", metavar="N", help="Interval of scores.  [default: a hundredth of the length]")
@click.option("--samples", type=WholeNumber(2), metavar="N", help="Fakes a score.  [default: the protocol's]")
@click.option("--protocol", type=click.Choice(list(PROTOCOLS)), help="How scores are measured.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="bf16: autocast, float32 weights and losses.")
@length_options
@device_option()
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Where the runs go.  [default: runs/speedrun-...]"
)
@inception_weights_option
@data_dir_option
@json_option
@run_options
def speedrun(
    dataset: Choice,
    target: str,
    architecture: Choice,
    options: tuple[str, ...],
    recipe: str | None,
    evaluator: Choice | None,
    seeds: str,
    samples: int | None,
    epochs: str | None,
    images: str | None,
    steps: str | None,
    device: str,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    capture: bool | None,
    compile: bool | None,
    **changes: Any,
) -> None:
    """Train on DATASET until a score reaches its target, with several seeds, and print how long that takes.

    \b
      ganzoo speedrun digits --target 'fid-domain<=30'
      ganzoo speedrun mnist --target 'recall>=0.1' -a dcgan:width=32 --epochs 20 --score-every 1 --seeds 0..4

    Each seed is an ordinary run in DIR. It ends at the first score that reaches the target, or at its length (--epochs,
    --images, --steps, or the recipe's). So the time is no more precise than --score-every. Seconds of training are all
    seconds of a run except those of scoring. If a seed does not reach the target, there is no mean and the exit code is
    1. The same command again resumes what was interrupted. The record is written to DIR/....json.
    """
    from ganzoo.experiments.grid import parse_seeds
    from ganzoo.experiments.speedrun import parse_target, trials_for_seeds
    from ganzoo.experiments.speedrun import speedrun as run_speedrun
    from ganzoo.registry.zoo import zoo

    goal, numbers = parse_target(target, zoo(), evaluator), parse_seeds(seeds)
    changes |= {"score_samples": samples}
    given = {"architecture": architecture, "dataset": dataset}
    base = recipe_from_options(given, options, recipe, length_of(epochs, images, steps), False, changes)
    often = changes["score_every"] is None
    trials = trials_for_seeds(zoo(), architecture, dataset, base, goal, numbers, often)
    if out is None:
        out = Path("runs") / f"speedrun-{trials[0].name.partition('-seed')[0]}"
    more: dict[str, Any] = {
        "extra_observers": lambda: progress_observers(quiet, verbose),
        **execution_options(capture, compile),
    }
    record = run_speedrun(zoo(), trials, goal, out, device, note=log, **more)
    path = out / f"{record['name']}.json"
    print_json(path=str(path), record=record) if as_json else _show(record)
    log(f"Record: {path}")
    if record["reached"] < len(numbers):
        raise GanzooError(f"{goal} was reached by {record['reached']} of {counted(len(numbers), 'seed')}.")


def _show(record: dict[str, Any]) -> None:
    columns = ["seed", "reached", "last value", "training s", "scoring s", "images", "steps"]
    formats = {"value": ".4g", "training_seconds": ".1f", "scoring_seconds": ".1f", "images": ",", "steps": ","}
    rows = []
    for seed in record["seeds"]:
        numbers = [format(seed[name], way) if name in seed else "-" for name, way in formats.items()]
        rows.append([str(seed["seed"]), "yes" if seed["reached"] else "no", *numbers])
    print_table(columns, rows, f"{record['target']} on {record['dataset']} by {record['architecture']}")
    for seed in record["seeds"]:
        if not seed["reached"]:
            click.echo(f"Seed {seed['seed']}: {seed['reason']}.")
    means = [record[name] for name in ("training_seconds", "images")]
    if None in means:
        missed = record["reached"] < len(record["seeds"])
        why = "not every seed reached the target" if missed else "they were measured in more than one way"
        click.echo(f"No mean: {why}.")
        return
    seconds, images = (
        f"{found['mean']:{way}}" + ("" if found["std"] is None else f" ± {found['std']:{way}}")
        for found, way in zip(means, (".1f", ",.0f"), strict=True)
    )
    click.echo(f"{seconds} s of training, {images} images.")
