"""ganzoo train, ganzoo resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ganzoo.cli.options import (
    PartParam,
    changed_code_option,
    changed_images_option,
    data_dir_option,
    device_named,
    device_option,
    inception_weights_option,
    json_option,
    length_of,
    run_argument,
)
from ganzoo.cli.output import log, print_json
from ganzoo.cli.recipe_options import (
    console_observers,
    execution_options,
    length_options,
    recipe_from_options,
    talk_options,
)
from ganzoo.contract.choice import Choice
from ganzoo.contract.protocol import PROTOCOLS
from ganzoo.contract.recipe import BATCH_ORDERS, PRECISIONS


def _report(run: Any, progress: Any, verb: str, as_json: bool, quiet: bool) -> None:
    if not run.writes:
        return
    if as_json:
        last = (run.lines("stats.jsonl") or [{}])[-1]
        print_json(
            {"run": str(run.path), "step": progress.step, "images": progress.images, "epochs": progress.epochs} | last
        )
        return
    click.echo(run.path)
    if not quiet:
        _say_scores(run)
        log(
            f"{verb}. Look: {run.path / 'samples'}   draw: ganzoo sample {run.path}   score: ganzoo evaluate {run.path}"
        )


def _say_scores(run: Any) -> None:
    """Last and best, always both."""
    best, lines = run.best(), [line for line in run.lines("scores.jsonl") if line.get("training")]
    if best is not None:
        same = [line for line in lines if line.get("score") == best["score"] and isinstance(line.get("card"), dict)]
        last = same[-1]
        log(
            f"{best['score']} ({best['better']} is better): last {last['value']:.4f} at {last['images']} images, "
            f"best {best['value']:.4f} at {best['images']}."
        )
        others = sum(line["card"].get("digest") != best["card"]["digest"] for line in same)
        if others:
            log(
                f"The best of {len(same) - others} scores: {others} before were measured against other images or "
                f"otherwise, and are not to be compared with them."
            )


@click.command()
@click.argument("architecture", type=PartParam("architectures"))
@click.argument("dataset", type=PartParam("datasets"))
@click.option(
    "-o", "options", multiple=True, metavar="KEY=VALUE", help="An option of the architecture, or dataset.KEY=VALUE."
)
@click.option("--recipe", metavar="FILE.toml|NAME", help="A recipe file, a variant of the architecture, or another's.")
@click.option(
    "--loss", "losses", multiple=True, type=PartParam("losses"), metavar="SPEC", help="A loss; several add up."
)
@click.option(
    "--augmentation",
    "augmentations",
    multiple=True,
    type=PartParam("augmentations"),
    metavar="SPEC",
    help="What the discriminator sees, changed.",
)
@click.option(
    "--observer",
    "observers",
    multiple=True,
    type=PartParam("observers"),
    metavar="SPEC",
    help="Sees the run and changes nothing.",
)
@click.option(
    "-e",
    "evaluators",
    multiple=True,
    type=PartParam("evaluators"),
    metavar="SPEC",
    help="Scores the generator on the way.",
)
@click.option("--score-every", metavar="N", help="Interval of scores, in the unit of the length, or '500 steps'.")
@click.option(
    "--samples",
    "score_samples",
    type=click.IntRange(2),
    metavar="N",
    help="Fakes a score.  [default: the protocol's]",
)
@click.option("--protocol", type=click.Choice(list(PROTOCOLS)), help="How scores are measured.")
@click.option(
    "--best-by", metavar="SCORE", help="The score by which the best checkpoint is kept.  [default: the first]"
)
@inception_weights_option
@click.option("--generator-optimizer", type=PartParam("optimizers"), metavar="SPEC", help="Moves the generator.")
@click.option("--discriminator-optimizer", metavar="SPEC|shared", help="Moves the discriminator.")
@click.option("--turns", metavar="TURNS", help="Order of play: 'D,G' in turn, 'D+G' at once, 'D,D,D,D,D,G'.")
@click.option("--batch-order", type=click.Choice(BATCH_ORDERS), help="How minibatches are drawn.")
@click.option("--sampling", type=click.Choice(BATCH_ORDERS), hidden=True)
@click.option("--subset", metavar="'first N'|'last N'|all", help="Which training images.")
@click.option("--ema-half-life", type=click.IntRange(0), metavar="IMAGES", help="Moving average of the generator.")
@click.option("--average-half-life", type=click.IntRange(0), hidden=True)
@length_options
@click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Real images a minibatch.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of everything random: weights, order, latents.")
@device_option()
@click.option("--precision", type=click.Choice(PRECISIONS), help="bf16: autocast, float32 weights and losses.")
@click.option(
    "--samples-every", metavar="N", help="Interval of sample grids, in the unit of the length, or '500 steps'."
)
@click.option("--checkpoint-every", metavar="N", help="Interval of checkpoints, likewise.")
@click.option("--tick-every", metavar="N", help="Interval of lines in stats.jsonl, likewise.")
@click.option("--grid", metavar="RxC", help="Rows and columns of the sample grid.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="New directory of the run.  [default: runs/...]"
)
@data_dir_option
@click.option("--dry-run", is_flag=True, help="Print the recipe and stop.")
@json_option
@talk_options
def train(
    architecture: Choice,
    dataset: Choice,
    options: tuple[str, ...],
    recipe: str | None,
    generator_optimizer: Choice | None,
    discriminator_optimizer: str | None,
    epochs: str | None,
    images: str | None,
    steps: str | None,
    device: str,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    capture: bool | None,
    compile: bool | None,
    **changes: Any,
) -> None:
    """Train ARCHITECTURE on DATASET, as its recipe says unless told otherwise.

    \b
      ganzoo train dcgan-tutorial fashion-mnist --epochs 60
      ganzoo train dcgan-atienza mnist:size=32 --recipe frozen -o width=32
      ganzoo train ./my_gan.py:MyGAN mnist --loss hinge --loss r1:gamma=1 --turns D,G

    A SPEC is NAME[:key=value,...]; see `ganzoo list` and `ganzoo show`. Options given here replace what the recipe
    has: --loss replaces all of its losses. The run's directory is printed on stdout. Ctrl-C saves and stops;
    `ganzoo resume` goes on.
    """
    given = {"architecture": architecture, "dataset": dataset}
    if generator_optimizer:
        given["generator_optimizer"] = generator_optimizer
    if discriminator_optimizer and discriminator_optimizer != "shared":
        given["discriminator_optimizer"] = Choice.parse(discriminator_optimizer)
    chosen = recipe_from_options(
        given, options, recipe, length_of(epochs, images, steps), discriminator_optimizer == "shared", changes
    )
    if dry_run:
        print_json(chosen.to_dict()) if as_json else click.echo(chosen.to_toml(), nl=False)
        return
    from ganzoo.registry.zoo import zoo
    from ganzoo.storage.run import free_directory
    from ganzoo.training.train import start

    out = out or free_directory(chosen, Path("runs"))
    extra_observers = console_observers(quiet, verbose)
    how = {"extra_observers": extra_observers, "note": log, **execution_options(capture, compile)}
    run, progress = start(chosen, out, zoo(), device_named(device), **how)
    _report(run, progress, "Trained", as_json, quiet)


@click.command()
@run_argument
@length_options
@device_option(None)
@data_dir_option
@changed_code_option
@changed_images_option
@json_option
@talk_options
def resume(
    run: Path,
    epochs: str | None,
    images: str | None,
    steps: str | None,
    device: str | None,
    changed_code: bool,
    changed_images: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    capture: bool | None,
    compile: bool | None,
) -> None:
    """Continue RUN from its newest checkpoint. A length given here is the new total.

    \b
      ganzoo resume runs/dcgan-tutorial-mnist               finish what was interrupted
      ganzoo resume runs/dcgan-tutorial-mnist --epochs 75   a run of 50 epochs plays 25 more
    """
    from ganzoo.registry.zoo import zoo
    from ganzoo.training.train import resume as play_on

    length = length_of(epochs, images, steps)
    extra_observers = console_observers(quiet, verbose)
    how = {"extra_observers": extra_observers, "note": log, **execution_options(capture, compile)}
    resumed, progress = play_on(run, zoo(), device, length, changed_code, changed_images, **how)
    _report(resumed, progress, "Resumed and finished", as_json, quiet)
