"""ganzoo import-checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ganzoo.cli.options import json_option
from ganzoo.cli.output import log, print_json
from ganzoo.contract.errors import counted


@click.command("import-checkpoint")
@click.argument("foreign", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.safetensors")
@json_option
def import_checkpoint(foreign: Path, out: Path, as_json: bool) -> None:
    """Write the tensors of FOREIGN, a .pt or .pth file of another program, to OUT.safetensors, and print its sha256.

    The file is read in a process of its own that has limits, loads no plugin and runs nothing the file asks for. It is
    the only command that reads files of this kind: all others take safetensors alone.
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
