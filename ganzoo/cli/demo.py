"""ganzoo demo."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ganzoo.cli.console import Console
from ganzoo.cli.options import device_named, device_option, json_option
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import UsageError

_ARCHITECTURES = ("dcgan-tutorial", "dcgan-atienza-book")
_DATASET = "digits"
_SAMPLES = 5_000


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Where to put it all."
)
@device_option()
@json_option
def demo(out: Path, device: str, as_json: bool) -> None:
    """Train two DCGANs on real handwritten digits, score them, draw from them: a few minutes on a CPU, no download."""
    from ganzoo.registry.recipes import plan
    from ganzoo.registry.zoo import zoo
    from ganzoo.results.evaluate import evaluate
    from ganzoo.results.sample import sample, training_gif
    from ganzoo.storage.run import Run
    from ganzoo.training.train import start

    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; remove it, or give another directory by --out.")
    where, rows, facts = device_named(device), [], []
    for name in _ARCHITECTURES:
        log(f"\nTraining {name} on {_DATASET} ({where})")
        started = time.perf_counter()
        recipe = plan(zoo(), Choice(name), Choice(_DATASET), named=_DATASET)
        run, progress = start(recipe, out / name, zoo(), where, extra_observers={"console": Console()}, note=log)
        seconds = time.perf_counter() - started
        (score,) = evaluate(run.path, zoo(), where, samples=_SAMPLES)
        picture = sample(run.path, zoo(), where, shape=(8, 10))
        animation = training_gif(Run.open(run.path), run.path / "training.gif")
        rows.append(
            [name, f"{score['value']:.2f}", str(_SAMPLES), str(recipe.seed), str(progress.images), f"{seconds:.0f} s"]
        )
        facts.append({**score, "architecture": name, "training_seconds": seconds, "samples": str(picture)})
        facts[-1]["gif"] = str(animation)
    if as_json:
        print_json(facts)
        return
    click.echo()
    title = f"{_DATASET}: Frechet distance in the features of a digit classifier, lower is better"
    print_table(["architecture", "fid-domain", "fakes", "seed", "images seen", "training"], rows, title=title)
    click.echo("\nLook at:")
    for fact in facts:
        click.echo(f"  {fact['samples']}\n  {fact['gif']}")
    log("\nNext: ganzoo train dcgan-tutorial mnist --epochs 5")
