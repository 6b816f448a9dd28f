"""ganzoo export."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.options import at_option, changed_code_option, json_option, run_argument
from ganzoo.cli.output import log, print_json

_FORMATS = ("safetensors", "onnx", "torch-export")


@click.command()
@run_argument
@click.option(
    "--format",
    type=click.Choice(_FORMATS),
    default=_FORMATS[0],
    show_default=True,
    help="onnx and torch-export need no code.",
)
@click.option(
    "--average/--raw",
    "averaged",
    default=None,
    help="The EMA of the weights, or the weights as trained.  [default: as saved]",
)
@at_option
@click.option(
    "--license", default="unknown", show_default=True, metavar="ID", help="An identifier, such as apache-2.0."
)
@changed_code_option
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A new or empty folder.  [default: ARCHITECTURE-DATASET-FORMAT]",
)
@json_option
def export(
    run: Path,
    format: str,
    averaged: bool | None,
    at: int | str | None,
    license: str,
    changed_code: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Export the generator of RUN as a folder: weights in float32, card.json, README.md and a picture of samples.

    \b
      ganzoo export runs/a -o a                  weights, for a machine that has the architecture
      ganzoo export runs/a --format onnx -o a    runs without the code of the architecture
      ganzoo export pretrained:cgan/digits --format onnx

    The exported generator is run again and compared with RUN at two batch sizes; its batch may have any size. The
    folder can be used in the place of a RUN, for example by `ganzoo sample` and `ganzoo evaluate`. onnx needs
    pip install 'torch-ganzoo[export]'.
    """
    from ganzoo.registry.zoo import zoo
    from ganzoo.results.export.write import export as write

    done = write(run, zoo(), format, out, averaged, at, license, changed_code, log)
    check, files = done.card["check"], done.card["files"]
    if as_json:
        listed = [{"name": name, **facts} for name, facts in files.items()]
        return print_json(run=str(run), path=str(done.path), format=format, check=check, files=listed)
    sizes = " and ".join(map(str, check["batch_sizes"]))
    log(f"Compared with the run at batches of {sizes}: the largest error is {check['largest_error']:.2g}.")
    click.echo(done.path)
