"""ganzoo import, ganzoo import-checkpoint."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

import click

from ganzoo.cli.options import json_option
from ganzoo.cli.output import log, print_json
from ganzoo.cli.parameters import PartParam
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import counted


@click.command("import")
@click.argument("files", type=click.Path(path_type=Path), metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--as",
    "architecture",
    type=PartParam("architectures"),
    required=True,
    metavar="SPEC",
    help="The architecture whose official program wrote the file, such as sngan.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="RUN", help="New directory of the run.  [default: runs/...]"
)
@click.option(
    "--dataset",
    type=PartParam("datasets"),
    metavar="SPEC",
    help="What it is compared with and trained on.  [default: that of the recipe]",
)
@json_option
def import_(
    files: tuple[Path, ...], architecture: Choice, out: Path | None, dataset: Choice | None, as_json: bool
) -> None:
    """Make a run from FILE, a checkpoint of the official program of an architecture.

    \b
      ganzoo import netG.pth netD.pth --as sngan
      ganzoo import netG_epoch_24.pth --as dcgan-pytorch --out runs/faces

    The generator and the discriminator may be in files of their own. Options and image size follow from the shapes of
    the weights. The files are read in a process of its own that has limits, loads no plugin and runs nothing they ask
    for. The run can be sampled, scored and exported; `ganzoo resume` begins a training with these weights.
    """
    from ganzoo.api.imports import import_checkpoint as take_over

    run = take_over(list(files), architecture, out=out, dataset=dataset)
    facts = run.environment["initial_weights"]
    if as_json:
        print_json(run=str(run.path), architecture=str(run.recipe.architecture), **_networks(facts))
        return
    click.echo(run.path)
    name = shlex.quote(str(run.path))
    log(f"Imported {' and '.join(facts['networks'])} of {run.recipe.architecture}. Draw: ganzoo sample {name}")


def _networks(facts: dict[str, object]) -> dict[str, object]:
    return {name: facts[name] for name in ("networks", "from", "sha256")}


@click.command("import-checkpoint")
@click.argument("foreign", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.safetensors")
@json_option
def import_checkpoint(foreign: Path, out: Path, as_json: bool) -> None:
    """Write the tensors of FOREIGN, a .pt or .pth file of another program, to OUT.safetensors, and print its sha256.

    The file is read in a process of its own that has limits, loads no plugin and runs nothing the file asks for. For a
    run that ganzoo can use, see `ganzoo import`.
    """
    from ganzoo.storage.foreign import import_checkpoint as take_over

    imported = take_over(foreign, out)
    if as_json:
        print_json(**{**asdict(imported), "path": str(imported.path)})
        return
    click.echo(f"{imported.sha256}  {imported.path}")
    left_out = counted(imported.left_out, "value that is no tensor was", "values that are no tensors were")
    rest = f"; {left_out} left out" if imported.left_out else ""
    log(f"{counted(imported.tensors, 'tensor')}, {imported.bytes / 1e6:.1f} MB{rest}.")
