"""ganzoo demo."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from ganzoo.cli.options import device_named, device_option, json_option
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.train import stopped_by_signal
from ganzoo.contract.errors import UsageError

_ARCHITECTURES = ("dcgan-tutorial", "dcgan-atienza-book")
_DATASET = "digits"
_SAMPLES = 5_000


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Directory of the results."
)
@device_option()
@json_option
def demo(out: Path, device: str, as_json: bool) -> None:
    """Train two DCGANs on real handwritten digits, score them and draw samples: minutes on a CPU, no download."""
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; remove it, or give another directory by --out.")
    device = str(device_named(device))
    facts = [_train_one(name, out / name, device) for name in _ARCHITECTURES]
    if as_json:
        print_json(runs=facts)
        return
    click.echo()
    title = f"{_DATASET}: Frechet distance in the features of a digit classifier, lower is better"
    columns = ["architecture", "fid-domain", "fakes", "seed", "images seen", "training"]
    print_table(columns, [_row(one) for one in facts], title=title)
    click.echo("\nLook at:")
    for one in facts:
        click.echo(f"  {one['samples']}\n  {one['gif']}")
    log("\nNext: ganzoo train dcgan-tutorial mnist --epochs 5")


def _train_one(name: str, path: Path, device: str) -> dict[str, Any]:
    """Train one architecture, score it, draw from it, and return the facts about it."""
    from ganzoo.api.train import train
    from ganzoo.results.sample import training_gif
    from ganzoo.storage.run import Run

    log(f"\nTraining {name} on {_DATASET} ({device})")
    started = time.perf_counter()
    with stopped_by_signal():
        run = train(name, _DATASET, recipe=_DATASET, out=path, device=device)
    seconds = time.perf_counter() - started
    scores = list(run.evaluate(samples=_SAMPLES))
    picture = run.sample(grid=(8, 10)).save(path / "sample-0.png")
    animation = training_gif(Run.open(path), path / "training.gif")
    progress = run.progress
    return {
        "run": str(path),
        "architecture": name,
        "dataset": _DATASET,
        "seed": run.recipe.seed,
        "step": progress.step,
        "images": progress.images,
        "epoch": progress.epochs,
        "training_seconds": seconds,
        "samples": str(picture),
        "gif": str(animation),
        "scores": scores,
    }


def _row(one: dict[str, Any]) -> list[str]:
    numbers = [str(_SAMPLES), str(one["seed"]), str(one["images"])]
    return [one["architecture"], f"{one['scores'][0]['value']:.2f}", *numbers, f"{one['training_seconds']:.0f} s"]
