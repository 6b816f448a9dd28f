"""ganzoo evaluate."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.common import (
    Part,
    data_dir_option,
    device_named,
    device_option,
    json_option,
    print_json,
    print_table,
    run_argument,
)
from ganzoo.contract.recipe import Choice


@click.command()
@run_argument
@click.option(
    "-e", "evaluators", multiple=True, type=Part("evaluators"), metavar="NAME[:k=v]", help="[default: fid-domain]"
)
@click.option("--samples", type=click.IntRange(2), default=10_000, show_default=True, help="Number of fakes.")
@click.option("--split", type=click.Choice(["train", "test"]), default="train", show_default=True, help="Which reals.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the latents.")
@click.option("--at", type=click.IntRange(0), metavar="IMAGES", help="The generator saved at this many images seen.")
@device_option()
@data_dir_option
@json_option
def evaluate(
    run: Path,
    evaluators: tuple[Choice, ...],
    samples: int,
    split: str,
    seed: int,
    at: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Score the generator of RUN against the real images of its dataset.

    \b
      ganzoo evaluate runs/a                     Frechet distance in features of the dataset's own classifier, offline
      ganzoo evaluate runs/a -e fid              Inception FID (its weights are fetched once)

    Each score is appended to RUN/scores.jsonl with a card that says how it was made.
    """
    from ganzoo.evaluate import evaluate as score
    from ganzoo.zoo import zoo

    lines = score(run, zoo(), device_named(device), evaluators, samples, split, seed, at)
    if as_json:
        print_json(lines)
        return
    rows = [
        [line["score"], f"{line['value']:.4f}", line["better"], str(samples), split, str(line["card"]["images_seen"])]
        for line in lines
    ]
    print_table(["score", "value", "better", "fakes", "reals", "images seen"], rows)
