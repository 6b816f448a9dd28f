"""ganzoo evaluate."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.common import (
    Part,
    at_option,
    changed_code_option,
    data_dir_option,
    device_named,
    device_option,
    inception_weights_option,
    json_option,
    print_json,
    print_table,
)
from ganzoo.contract.errors import UsageError
from ganzoo.contract.protocol import PROTOCOLS
from ganzoo.contract.recipe import Choice


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option(
    "-e",
    "evaluators",
    multiple=True,
    type=Part("evaluators"),
    metavar="NAME[:k=v]",
    help="What to score by.  [default: those of the run, or fid-domain]",
)
@click.option("--samples", type=click.IntRange(2), metavar="N", help="Number of fakes.  [default: the protocol's]")
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="default",
    show_default=True,
    help="How many fakes against which reals, and how images are resized.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the latents.")
@at_option
@inception_weights_option
@changed_code_option
@device_option()
@data_dir_option
@json_option
def evaluate(
    run: Path | None,
    evaluators: tuple[Choice, ...],
    samples: int | None,
    protocol: str,
    seed: int,
    at: int | str | None,
    changed_code: bool,
    device: str,
    as_json: bool,
) -> None:
    """Score the generator of RUN against the real images of its dataset.

    \b
      ganzoo evaluate runs/a                     Frechet distance in features of the dataset's own classifier, offline
      ganzoo evaluate runs/a -e fid              Inception FID (its weights are fetched once)
      ganzoo evaluate runs/a --at best           the best generator of a run that was scored while it was trained

    Each score is appended to RUN/scores.jsonl with a card that says how it was measured. Only numbers whose cards have
    the same digest are to be compared.
    """
    from ganzoo.evaluate import evaluate as score
    from ganzoo.zoo import zoo

    if run is None:
        raise UsageError("Name the RUN to score: the directory that `ganzoo train` printed.")
    lines = score(run, zoo(), device_named(device), evaluators, samples, protocol, seed, at, changed_code)
    if as_json:
        print_json(lines)
        return
    rows = [
        [
            line["score"],
            f"{line['value']:.4f}",
            line["better"],
            str(line["card"]["measure"]["fakes"]),
            f"{line['card']['measure']['reals']['images']} {line['card']['measure']['reals']['split']}",
            str(line["images"]),
            line["card"]["digest"],
        ]
        for line in lines
    ]
    print_table(["score", "value", "better", "fakes", "reals", "images seen", "card"], rows)
