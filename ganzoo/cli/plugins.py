"""ganzoo plugins: list the installed plugins, check one part, write the files of a new plugin."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ganzoo.cli.options import json_option, kind_option
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.parameters import PartParam
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import UsageError
from ganzoo.contract.hooks import KINDS

if TYPE_CHECKING:
    from ganzoo.registry.plugins import Plugin

#: columns for the name of a check
_WIDTH = 36


class _Plugins(click.Group):
    """Lists the plugins if no subcommand is given; imports a subcommand when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["check", "new"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "check":
            return check
        if cmd_name == "new":
            from ganzoo.cli.plugins_new import new

            return new
        return None


@click.group("plugins", cls=_Plugins, invoke_without_command=True)
@json_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List the installed plugins: the parts and commands that each adds, and what failed and why.

    \b
      ganzoo plugins
      ganzoo plugins check ./my_gan.py:MyGAN
      ganzoo plugins new my-gan --kind architecture
    """
    if ctx.invoked_subcommand is None:
        _list(as_json)


def _list(as_json: bool) -> None:
    from ganzoo.cli import BUILT_IN
    from ganzoo.cli.plugin_commands import clashes
    from ganzoo.registry.describe import faults
    from ganzoo.registry.zoo import zoo

    found = sorted(zoo().plugins.values(), key=lambda plugin: plugin.distribution)
    notes = clashes(BUILT_IN)
    errors = {plugin.distribution: [*faults(plugin), *notes.get(plugin.distribution, [])] for plugin in found}
    if as_json:
        print_json(plugins=[_facts(plugin, errors[plugin.distribution]) for plugin in found])
        return
    rows = []
    for plugin in found:
        names = {kind: [c.name for c in plugin.components if c.kind == kind] for kind in KINDS}
        names["commands"] = [command.name for command in plugin.commands]
        adds = "; ".join(f"{kind}: {', '.join(some)}" for kind, some in names.items() if some)
        state = "disabled" if plugin.disabled else "; ".join(errors[plugin.distribution]) or "ok"
        rows.append([plugin.distribution, plugin.version, adds, state])
    print_table(["distribution", "version", "adds", "state"], rows)


def _facts(plugin: Plugin, errors: list[str]) -> dict[str, Any]:
    """What the plugin manager knows of one distribution."""
    from ganzoo.registry.describe import part_facts

    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "disabled": plugin.disabled,
        "modules": [{"name": name, "hooks": hooks} for name, hooks in plugin.hooks.items()],
        "parts": [part_facts(component) for component in plugin.components],
        "commands": [{"name": c.name, "id": c.id, "target": c.target, "description": c.help} for c in plugin.commands],
        "errors": errors,
    }


@click.command("check", short_help="Check that a part keeps its contract.")
@click.argument("part", metavar="NAME_OR_FILE[:CLASS][:OPTIONS]", type=PartParam("architectures"))
@kind_option
@json_option
@click.pass_context
def check(ctx: click.Context, part: Choice, kind: str | None, as_json: bool) -> None:
    """Run the conformance kit on a part: one line for each check, with the reason if it failed or was skipped.

    \b
      ganzoo plugins check dcgan:width=8
      ganzoo plugins check ./my_gan.py:MyGAN
      ganzoo plugins check ./my_gan.py          # every part in the file

    It works offline on small synthetic images, and takes a minute at most for small networks. The exit status is 1 if
    a check fails.
    """
    started = time.perf_counter()
    outcomes = []
    for choice, its_kind in _parts(part, kind):
        outcomes += _examine(choice, its_kind, as_json)
    if as_json:
        print_json(checks=outcomes)
    counts = {state: sum(o["state"] == state for o in outcomes) for state in ("ok", "failed", "skipped")}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    log(f"{summary}, in {time.perf_counter() - started:.1f} s.")
    ctx.exit(1 if counts["failed"] else 0)


def _parts(part: Choice, kind: str | None) -> list[tuple[Choice, str]]:
    """The parts to check, each with its kind: for a file without a class, every part that it defines.

    With `kind`, only the parts of this kind. The options are those of every part. Raises UsageError for a file that
    has no such part.
    """
    from ganzoo.registry.describe import find_kind, parts_of_file

    if part.name.endswith(".py"):
        found = [(Choice(one.name, part.options), of) for one, of in parts_of_file(part.name) if kind in (None, of)]
        if not found:
            raise UsageError(f"{part.name} defines none of the {kind}: leave --kind out to check all its parts.")
        return found
    return [(part, kind or find_kind(part))]


def _examine(choice: Choice, kind: str, as_json: bool) -> list[dict[str, object]]:
    from ganzoo.testing.catalogue import CHECKS
    from ganzoo.testing.kit import ExaminedPart, examine

    examined = ExaminedPart.of(choice, kind)
    if not as_json:
        click.echo(f"{choice} ({kind})")
    outcomes = []
    for one in CHECKS[kind]:
        outcome = examine(examined, one)
        outcomes.append({"part": str(choice), "kind": kind, **vars(outcome)})
        if not as_json:
            reason = f"  {outcome.reason}" if outcome.reason else ""
            click.echo(f"  {outcome.state:<8}{outcome.check:<{_WIDTH}}{outcome.seconds:>6.2f} s{reason}")
    return outcomes
