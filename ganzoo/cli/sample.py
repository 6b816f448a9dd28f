"""ganzoo sample."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ganzoo.cli.help import SectionedCommand
from ganzoo.cli.options import at_option, changed_code_option, device_named, device_option, json_option, run_argument
from ganzoo.cli.output import log, print_json
from ganzoo.cli.parameters import PositiveNumber, Shape, WholeNumber
from ganzoo.contract.errors import UsageError

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Tile(click.ParamType):
    """A parameter for a tile of a grid, written ROW,COLUMN from 1: `2,5` becomes (2, 5)."""

    name = "R,C"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(row, column). Raises click's usage error for another text."""
        match = re.fullmatch(r"(\d{1,4}),(\d{1,4})", str(value))
        if not match:
            self.fail(f"{value!r} is not ROW,COLUMN, such as 2,5, counted from 1.", param, ctx)
        return int(match[1]), int(match[2])


_IMAGES = (
    click.option("-n", "--count", "count", type=WholeNumber(1, 1_000_000), metavar="N", help="Number of images."),
    click.option("--grid", "shape", type=Shape(), metavar="RxC", help="Rows and columns."),
    click.option("--seed", type=WholeNumber(0), default=0, show_default=True, help="Seed of the latents."),
    click.option("--class", "label", metavar="NAME|K", help="Only this class, by name or number (conditional runs)."),
    click.option("--classes", metavar="0..9|A,B", help="A row for each of these classes, by numbers or names."),
    click.option(
        "--latents", type=click.Path(path_type=Path), metavar="FILE.npy|npz", help="Draw these latents, N x Z numbers."
    ),
    click.option(
        "--truncation", type=PositiveNumber(), metavar="PSI", help="Truncate Gaussian latents at this absolute value."
    ),
    click.option(
        "--standing-statistics",
        type=WholeNumber(1),
        metavar="N",
        help="Recompute the statistics of batch norm over N batches of generated images.",
    ),
    click.option("--tile", type=Tile(), metavar="R,C", help="One tile of the training's own grid, from 1, enlarged."),
    at_option,
    changed_code_option,
)
_WALKS = (
    click.option(
        "--interpolate",
        is_flag=True,
        help="Interpolate between latents: a row for each pair, or an animation with --gif.",
    ),
    click.option("--from-seed", type=WholeNumber(0), metavar="A", help="Walk from the images of seed A ..."),
    click.option("--to-seed", type=WholeNumber(0), metavar="B", help="... to those of seed B."),
    click.option(
        "--interpolation",
        "method",
        type=click.Choice(["slerp", "lerp"]),
        default="slerp",
        show_default=True,
        help="On arcs, or on straight lines.",
    ),
    click.option("--frames", type=WholeNumber(2, 10_000), metavar="N", help="Images of a walk or an animation."),
)
_REALS = (
    click.option("--with-reals", is_flag=True, help="As many training images beside them."),
    click.option("--neighbours", type=WholeNumber(1), metavar="K", help="The K nearest training images beside each."),
)
_FILES = (
    click.option(
        "-o",
        "--out",
        metavar="FILE|DIR/",
        help=".png; .npy (uint8) or .npz with labels and latents; a film; DIR/ for single PNGs.",
    ),
    click.option(
        "--png-dir", type=click.Path(path_type=Path), metavar="DIR", help="The same as -o DIR/: single PNGs and a CSV."
    ),
    click.option("--gif", "animate", flag_value=".gif", default=None, help="The grids saved during training as a GIF."),
    click.option("--webp", "animate", flag_value=".webp", help="The same as WebP: smaller, and without loss."),
    click.option("--mp4", "animate", flag_value=".mp4", help="The same as a film (extra `video`)."),
)
_LOOK = (
    click.option("--theme", type=click.Choice(["dark", "light"]), default="dark", show_default=True, help="Colours."),
    click.option("--title", default="", metavar="TEXT", help="Above the picture."),
    click.option("--caption", is_flag=True, help="Write the run, the epoch and the images seen below."),
    click.option("--scale", type=WholeNumber(1, 64), metavar="K", help="Enlarge K times.  [default: to 72 pixels]"),
)


def _sections(command: _Command) -> _Command:
    """All options above, in this order."""
    for option in reversed([*_IMAGES, *_WALKS, *_REALS, *_FILES, *_LOOK]):
        command = option(command)
    return command


@click.command(
    cls=SectionedCommand,
    sections={
        "What is drawn": "--count --grid --seed --at --class --classes --truncation --standing-statistics "
        "--latents --tile",
        "Walks and animations": "--interpolate --from-seed --to-seed --interpolation --frames --gif --webp --mp4",
        "Beside training images": "--with-reals --neighbours",
        "How it looks": "--theme --title --caption --scale",
        "How it runs": "--device --accept-changed-code",
        "Output": "--out --png-dir --json --help",
    },
)
@run_argument
@_sections
@device_option()
@json_option
def sample(run: Path, device: str, as_json: bool, **options: Any) -> None:
    """Draw new images with the generator of RUN and print the path of the file or folder.

    \b
      ganzoo sample runs/a                           a grid of fresh samples
      ganzoo sample runs/a --gif                     the training as an animation
      ganzoo sample runs/a --interpolate --gif       an interpolation as an animation
      ganzoo sample runs/a --from-seed 3 --to-seed 7 -o walk.mp4
      ganzoo sample runs/a --class dogs              one class of a conditional run
      ganzoo sample runs/a --classes 0..9 --grid 10x8
      ganzoo sample runs/a --tile 2,5                one tile of the training's grid
      ganzoo sample runs/a --neighbours 6            with the nearest training images
      ganzoo sample runs/a -n 10000 -o fakes/        single PNGs, and images.csv
      ganzoo sample runs/a -n 10000 -o fakes.npz     images, labels and latents

    The classes of a conditional run's .npy are written beside it: fakes.labels.csv, a line for each image.
    """
    from ganzoo.registry.zoo import zoo
    from ganzoo.results.sample import labels_file
    from ganzoo.results.sample import sample as draw

    path = draw(run, zoo(), device_named(device), _request(options), log)
    if not as_json:
        return click.echo(path)
    labels = path / "images.csv" if path.is_dir() else labels_file(path)
    has_labels = path.is_dir() or path.suffix == ".npy"
    standing = options["standing_statistics"]
    table = str(labels) if has_labels and labels.is_file() else None
    print_json(run=str(run), path=str(path), labels=table, standing_statistics=standing)


def _request(options: dict[str, Any]) -> Any:
    """The SampleRequest of the options. Raises UsageError where they contradict each other."""
    from ganzoo.results.request import SampleRequest, place

    label, classes = options.pop("label"), options.pop("classes")
    if label is not None and classes is not None:
        raise UsageError("--class and --classes exclude each other: name the classes once.")
    out, directory, animate = options.pop("out"), options.pop("png_dir"), options.pop("animate")
    where = place(out)
    if directory is not None and "directory" in where:
        raise UsageError(f"-o {out} and --png-dir {directory} exclude each other: name one of the two.")
    where |= {} if directory is None else {"directory": directory}
    where |= {} if animate is None else {"animate": animate}
    chosen = classes if label is None else (label,)
    neighbours = options.pop("neighbours") or 0
    return SampleRequest(classes=chosen, neighbours=neighbours, **options, **where)
