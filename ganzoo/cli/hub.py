"""ganzoo push and ganzoo pull."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.options import json_option
from ganzoo.cli.output import log, print_json

_revision = click.option("--revision", metavar="NAME", help="A branch, tag or commit.  [default: the main branch]")


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Create a private repository, if it is created.")
@_revision
@json_option
def push(folder: Path, repository: str, private: bool, revision: str | None, as_json: bool) -> None:
    """Upload the export in DIR to the repository OWNER/NAME of a model hub, and print the address.

    \b
      ganzoo export runs/a -o a --license apache-2.0
      ganzoo push a me/dcgan-mnist --private

    Only the card, README.md and the files of the card are uploaded, each compared with its sha256 first. It needs
    pip install 'torch-ganzoo[hub]' and a login (`hf auth login`). HF_ENDPOINT names another hub.
    """
    from ganzoo.results.export.hub import push as upload

    address = upload(folder, repository, private, revision)
    if as_json:
        return print_json(path=str(folder), repository=repository, url=address)
    click.echo(address)


@click.command()
@click.argument("repository", metavar="OWNER/NAME")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="DIR", help="A new or empty folder.  [default: NAME]"
)
@_revision
@json_option
def pull(repository: str, out: Path | None, revision: str | None, as_json: bool) -> None:
    """Download the export in the repository OWNER/NAME of a model hub, and check every file.

    \b
      ganzoo pull me/dcgan-mnist
      ganzoo sample dcgan-mnist

    The folder can be used in the place of a RUN. Nothing that was downloaded is run. It needs
    pip install 'torch-ganzoo[hub]'. HF_ENDPOINT names another hub.
    """
    from ganzoo.results.export.hub import pull as download

    done = download(repository, out, revision, log)
    if as_json:
        return print_json(
            repository=repository, path=str(done.path), name=done.card["name"], format=done.card["format"]
        )
    click.echo(done.path)
