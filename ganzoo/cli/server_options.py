"""What `ganzoo serve` and `ganzoo explore` share: where they listen, and what they print at the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ganzoo.cli.output import log
from ganzoo.cli.parameters import WholeNumber

_Command = TypeVar("_Command", bound=Callable[..., Any])


def server_options(first_port: int) -> Callable[[_Command], _Command]:
    """--host, --port, --allow-host and --open."""

    def with_options(command: _Command) -> _Command:
        for option in reversed(_OPTIONS):
            command = option(command)
        return command

    port = click.option(
        "--port",
        type=WholeNumber(0, 65535),
        metavar="N",
        help=f"Port to listen on; 0 takes any free one.  [default: {first_port}, or the next free one]",
    )
    _OPTIONS = (
        click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on."),
        port,
        click.option(
            "--allow-host",
            "names",
            multiple=True,
            metavar="NAME",
            help="Another name by which browsers may ask for the page, such as that of a proxy.",
        ),
        click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser."),
    )
    return with_options


def warn_of_strangers(host: str) -> None:
    """Print a warning where other machines can reach the page."""
    from ganzoo.server.guard import is_loopback

    if not is_loopback(host):
        log(
            f"Warning: with --host {host} everybody who can reach this machine over the network can see the page; it "
            f"asks for no password. Without --host only this machine can."
        )


def announcement(what: str) -> Callable[[str], None]:
    """The function that prints the address of a page on stdout, and what the page is on stderr."""

    def announce(address: str) -> None:
        click.echo(address)
        log(f"{what} Ctrl-C ends it.")

    return announce
