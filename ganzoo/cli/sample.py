"""ganzoo sample."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.help import SectionedCommand
from ganzoo.cli.options import (
    Shape,
    WholeNumber,
    at_option,
    changed_code_option,
    device_named,
    device_option,
    json_option,
    run_argument,
)
from ganzoo.cli.output import log, print_json


@click.command(
    cls=SectionedCommand,
    sections={
        "What is drawn": "--count --grid --seed --at --class --classes --truncation",
        "How it is shown": "--interpolate --slerp --with-reals --neighbours --labels --caption --gif --webp --mp4",
        "How it runs": "--device --accept-changed-code --data-dir",
        "Output": "--out --png-dir --json --help",
    },
)
@run_argument
@click.option("-n", "--count", "count", type=WholeNumber(1, 1_000_000), metavar="N", help="Number of images.")
@click.option("--grid", "shape", type=Shape(), metavar="RxC", help="Rows and columns.")
@click.option("--seed", type=WholeNumber(0), default=0, show_default=True, help="Seed of the latents.")
@click.option("--class", "label", metavar="NAME|K", help="Only this class, by its name or number (conditional runs).")
@click.option(
    "--interpolate", is_flag=True, help="Interpolate between latents: a row for each pair, or an animation with --gif."
)
@click.option("--gif", "animate", is_flag=True, help="The grids saved during training as a GIF.")
@at_option
@changed_code_option
@click.option(
    "-o",
    "--out",
    "out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=".png, .gif, or .npy for the uint8 array.",
)
@device_option()
@json_option
def sample(
    run: Path,
    count: int | None,
    shape: tuple[int, int] | None,
    seed: int,
    label: str | None,
    interpolate: bool,
    animate: bool,
    at: int | str | None,
    changed_code: bool,
    out: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Draw new images with the generator of RUN and print the path of the file.

    \b
      ganzoo sample runs/a                       a grid of fresh samples
      ganzoo sample runs/a --gif                 the training as an animation
      ganzoo sample runs/a --interpolate --gif   an interpolation as an animation
      ganzoo sample runs/a --class dogs          one class of a conditional run
      ganzoo sample runs/a -n 10000 -o fakes.npy

    The classes of a conditional run's array are written beside it: fakes.labels.csv, a line for each image.
    """
    from ganzoo.registry.zoo import zoo
    from ganzoo.results.sample import labels_file
    from ganzoo.results.sample import sample as draw

    path = draw(
        run, zoo(), device_named(device), out, count, shape, seed, label, interpolate, animate, at, changed_code, log
    )
    if not as_json:
        return click.echo(path)
    labels = labels_file(path)
    beside = str(labels) if path.suffix == ".npy" and labels.is_file() else None
    print_json(run=str(run), path=str(path), labels=beside)
