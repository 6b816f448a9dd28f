"""ganzoo train, ganzoo resume."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ganzoo.api.interrupt import TrainingInterrupted
from ganzoo.cli.help import SectionedCommand
from ganzoo.cli.options import (
    changed_code_option,
    changed_images_option,
    data_dir_option,
    device_option,
    inception_weights_option,
    json_option,
    pairs,
    run_argument,
)
from ganzoo.cli.output import log, print_json
from ganzoo.cli.parameters import PartParam, WholeNumber
from ganzoo.cli.recipe_options import batch_options, ema_options, length_options, recipe_options, run_options
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import counted
from ganzoo.contract.protocol import PROTOCOLS
from ganzoo.contract.recipe import BATCH_ORDERS, PRECISIONS

if TYPE_CHECKING:
    from ganzoo.api.trained_run import TrainedRun


@contextmanager
def stopped_by_signal() -> Iterator[None]:
    """Raise the error that has the exit status of the signal and the advice for the command line."""
    try:
        yield
    except TrainingInterrupted as stopped:
        raise (stopped.__context__ or stopped) from None


def _report(run: TrainedRun, verb: str, as_json: bool, quiet: bool) -> None:
    """Print the run's directory, or its last line of statistics as JSON; then the scores and the next commands."""
    from ganzoo.engine.distributed import rank

    if rank() != 0:
        return
    if as_json:
        progress, last = run.progress, (run.stats or [None])[-1]
        return print_json(
            run=str(run.path), step=progress.step, images=progress.images, epoch=progress.epochs, stats=last
        )
    click.echo(run.path)
    if not quiet:
        _log_scores(run)
        name = shlex.quote(str(run.path))
        log(f"{verb}. Look: {run.path / 'samples'}   draw: ganzoo sample {name}   score: ganzoo evaluate {name}")


def _log_scores(run: TrainedRun) -> None:
    """The last and the best score of the recipe's `best_by`, always both."""
    best, lines = run.best, [line for line in run.scores if line.get("training")]
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
                f"This is the best of {counted(len(same) - others, 'score')}. "
                f"{counted(others, 'earlier score was', 'earlier scores were')} measured against other images or in "
                f"another way, and cannot be compared with it."
            )


@click.command(
    cls=SectionedCommand,
    sections={
        "The recipe": "--option --recipe --loss --augmentation --generator-optimizer --discriminator-optimizer --turns "
        "--batch-size --accumulate --batch-order --subset --preprocessing --fake-labels --joint-forward "
        "--ema-half-life --ema-start --ema-ramp --ema-buffers --seed --observer",
        "Length": "--epochs --images --steps",
        "Scores during the training": "--evaluator --score-every --samples --protocol --best-by --early-stop "
        "--inception-weights",
        "Start": "--from --freeze-d",
        "What is saved": "--out --samples-every --grid --checkpoint-every --tick-every",
        "How it runs": "--device --precision --capture --compile --data-dir",
        "What is printed": "--quiet --verbose --no-pictures --dry-run --json --help",
    },
)
@click.argument("architecture", type=PartParam("architectures"))
@click.argument("dataset", type=PartParam("datasets"))
@recipe_options
@click.option(
    "--loss", "losses", multiple=True, type=PartParam("losses"), metavar="SPEC", help="A loss; several add up."
)
@click.option(
    "--augmentation",
    "augmentations",
    multiple=True,
    type=PartParam("augmentations"),
    metavar="SPEC",
    help="Changes real and fake images before the discriminator.",
)
@click.option(
    "--observer",
    "observers",
    multiple=True,
    type=PartParam("observers"),
    metavar="SPEC",
    help="Watches the run and changes nothing.",
)
@click.option(
    "-e",
    "--evaluator",
    "evaluators",
    multiple=True,
    type=PartParam("evaluators"),
    metavar="SPEC",
    help="Scores the generator during the training.",
)
@click.option("--score-every", metavar="N", help="Interval of scores, in the unit of the length, or '500 steps'.")
@click.option(
    "--samples",
    "score_samples",
    type=WholeNumber(2),
    metavar="N",
    help="Fake images of a score.  [default: the protocol's]",
)
@click.option("--protocol", type=click.Choice(list(PROTOCOLS)), help="How scores are measured.")
@click.option(
    "--best-by", metavar="SCORE", help="The score by which the best checkpoint is kept.  [default: the first]"
)
@click.option(
    "--early-stop",
    metavar="'SCORE patience=N'",
    help="Stop when SCORE has not improved in N scorings, such as 'fid-domain patience=3'.",
)
@inception_weights_option
@click.option("--generator-optimizer", type=PartParam("optimizers"), metavar="SPEC", help="Trains the generator.")
@click.option("--discriminator-optimizer", metavar="SPEC|shared", help="Trains the discriminator.")
@click.option(
    "--turns", metavar="TURNS", help="Turns of a step: 'D,G' in turn, 'D+G' on the same batch, 'D,D,D,D,D,G'."
)
@click.option("--batch-order", type=click.Choice(BATCH_ORDERS), help="How the images of a batch are chosen.")
@click.option("--sampling", type=click.Choice(BATCH_ORDERS), hidden=True)
@click.option("--subset", metavar="'first N'|'last N'|all", help="Which training images.")
@ema_options
@length_options
@click.option(
    "--from",
    "start_from",
    type=click.Path(path_type=Path),
    metavar="RUN|FILE",
    help="Start from the weights of a run, or of a checkpoint of another program.",
)
@click.option("--freeze-d", type=WholeNumber(0), metavar="N", help="Do not train the discriminator's first N layers.")
@batch_options
@click.option("--seed", type=WholeNumber(0), metavar="N", help="Seed of weights, batches and latents.")
@device_option()
@click.option("--precision", type=click.Choice(PRECISIONS), help="bf16: autocast, float32 weights and losses.")
@click.option(
    "--samples-every", metavar="N", help="Interval of sample grids, in the unit of the length, or '500 steps'."
)
@click.option("--checkpoint-every", metavar="N", help="Interval of checkpoints.")
@click.option("--tick-every", metavar="N", help="Interval of lines in stats.jsonl.")
@click.option("--grid", metavar="RxC", help="Rows and columns of the sample grid.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="New directory of the run.  [default: runs/...]"
)
@data_dir_option
@click.option("--dry-run", is_flag=True, help="Print the recipe and stop.")
@json_option
@run_options
def train(
    architecture: Choice,
    dataset: Choice,
    options: tuple[str, ...],
    losses: tuple[Choice, ...],
    augmentations: tuple[Choice, ...],
    observers: tuple[Choice, ...],
    evaluators: tuple[Choice, ...],
    score_samples: int | None,
    sampling: str | None,
    average_half_life: int | None,
    out: Path | None,
    device: str,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **keywords: Any,
) -> None:
    """Train ARCHITECTURE on DATASET. What no option sets is as in the architecture's recipe.

    \b
      ganzoo train dcgan-tutorial fashion-mnist --epochs 60
      ganzoo train dcgan-atienza mnist:size=32 --recipe frozen -o width=32
      ganzoo train ./my_gan.py:MyGAN mnist --loss hinge --loss r1:gamma=1 --turns D,G

    A SPEC is NAME[:key=value,...]; see `ganzoo list` and `ganzoo show`. An option replaces what the recipe has:
    --loss replaces all of its losses. The run's directory is printed on stdout. Ctrl-C saves and stops;
    `ganzoo resume` goes on.
    """
    from ganzoo.api.recipes import plan
    from ganzoo.api.train import train as run_training

    several = {"loss": losses, "augmentation": augmentations, "observer": observers, "evaluator": evaluators}
    keywords |= {name: choices for name, choices in several.items() if choices}
    keywords |= {"options": pairs(options), "samples": score_samples}
    _rename(keywords, batch_order=("sampling", sampling), ema_half_life=("average_half_life", average_half_life))
    how = {name: keywords.pop(name) for name in ("verbose", "capture", "compile", "start_from")}
    if dry_run:
        chosen = plan(architecture, dataset, **keywords)
        print_json(recipe=chosen.to_dict()) if as_json else click.echo(chosen.to_toml(), nl=False)
        return
    with stopped_by_signal():
        run = run_training(architecture, dataset, **keywords, **how, out=out, device=device, quiet=quiet)
    _report(run, "Trained", as_json, quiet)


def _rename(keywords: dict[str, Any], **renamed: tuple[str, Any]) -> None:
    """Take the values of options under their old names, and log what the new ones are."""
    for name, (old, value) in renamed.items():
        if value is not None:
            if keywords.get(name) is not None:
                raise click.UsageError(f"{old} is the old name of {name}: set only one of the two.")
            words = [f"--{word.replace('_', '-')}" for word in (old, name)]
            log(f"Warning: {words[0]} is now {words[1]}; the old name works until version 0.3.")
            keywords[name] = value


@click.command(
    cls=SectionedCommand,
    sections={
        "Length and recipe": "--epochs --images --steps --set --early-stop --dataset",
        "How it runs": "--device --capture --compile --data-dir --accept-changed-code --accept-changed-images",
        "What is printed": "--quiet --verbose --no-pictures --json --help",
    },
)
@run_argument
@length_options
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change a field of the recipe from here on: batch_size=32, generator_optimizer.lr=1e-4.",
)
@click.option("--early-stop", metavar="'SCORE patience=N'|off", help="As --set early_stop=...")
@click.option("--dataset", multiple=True, metavar="path=NEW", help="The new place of images that have moved.")
@device_option(None)
@data_dir_option
@changed_code_option
@changed_images_option
@json_option
@run_options
def resume(
    run: Path,
    changes: tuple[str, ...],
    dataset: tuple[str, ...],
    changed_code: bool,
    changed_images: bool,
    as_json: bool,
    quiet: bool,
    **keywords: Any,
) -> None:
    """Continue RUN from its newest checkpoint. A length is the new total length of the run.

    \b
      ganzoo resume runs/dcgan-tutorial-mnist               finish what was interrupted
      ganzoo resume runs/dcgan-tutorial-mnist --epochs 75   train a run of 50 epochs for 25 more
      ganzoo resume runs/a --set batch_size=32 --set generator_optimizer.lr=1e-4
      ganzoo resume runs/a --dataset path=/new/photos       the folder of the images has moved

    --set changes what does not need other networks or other images; history.json records from which step on.
    """
    from ganzoo.api.functions import resume as continue_run

    keywords |= {"set": pairs(changes, "--set") or None, "dataset": pairs(dataset, "--dataset") or None}
    keywords |= {"accept_changed_code": changed_code, "accept_changed_images": changed_images, "quiet": quiet}
    with stopped_by_signal():
        resumed = continue_run(run, **keywords)
    _report(resumed, "Resumed and finished", as_json, quiet)
