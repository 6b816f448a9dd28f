"""ganzoo list, ganzoo show."""

from __future__ import annotations

from typing import Any

import click

from ganzoo.cli.options import WholeNumber, json_option, matches
from ganzoo.cli.output import log, print_json, print_table, print_text
from ganzoo.contract.choice import Choice
from ganzoo.contract.hooks import KINDS


def _warn_of_broken_plugins() -> None:
    from ganzoo.registry.zoo import zoo

    for plugin in zoo().plugins.values():
        for error in plugin.errors:
            log(f"Warning: {plugin.distribution} {plugin.version}: {error}")


@click.command("list")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("pattern", required=False)
@json_option
def list_parts(kind: str, pattern: str | None, as_json: bool) -> None:
    """List the parts of a KIND, all of them or those whose name matches PATTERN. No part is imported.

    \b
      ganzoo list architectures
      ganzoo list losses 'r*'
    """
    from ganzoo.registry.describe import summary
    from ganzoo.registry.zoo import zoo

    found = [part for part in zoo().components(kind) if matches(part.name, pattern)]
    _warn_of_broken_plugins()
    if as_json:
        print_json(
            [
                {"name": p.name, "id": p.id, "version": p.version, "target": p.target, "description": summary(p)}
                for p in found
            ]
        )
        return
    if not found:
        log(f"No {kind} match {pattern!r}." if pattern else f"No {kind} are installed.")
    print_table(["name", "what it is", "from"], [[p.name, summary(p), f"{p.distribution} {p.version}"] for p in found])


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Needed only if two kinds have a part with that name.")
@click.option("--size", type=WholeNumber(1), default=28, show_default=True, help="Image size to count parameters at.")
@click.option("--channels", type=WholeNumber(1), default=1, show_default=True)
@click.option("--classes", type=WholeNumber(1), default=10, show_default=True)
@json_option
def show(name: str, kind: str | None, size: int, channels: int, classes: int, as_json: bool) -> None:
    """Show one part: its options with types, defaults and bounds, its recipe, its networks, its source.

    \b
      ganzoo show dcgan-tutorial
      ganzoo show ./my_gan.py:MyGAN
    """
    from ganzoo.contract.images import ImageSpec
    from ganzoo.registry.describe import describe, find_kind
    from ganzoo.registry.zoo import zoo

    choice = Choice.parse(name)
    facts = describe(zoo(), kind or find_kind(choice), choice, ImageSpec(channels, size, size, classes))
    print_json(facts) if as_json else _print_facts(facts)


def _print_facts(facts: dict[str, Any]) -> None:
    click.echo(f"{facts['name']}  ({facts['kind']}, from {facts['from']})\n")
    print_text(facts["description"] + "\n")
    rows = [[o["name"], o["type"], str(o["default"]), o["help"]] for o in facts["options"]]
    if rows:
        print_table(["option", "type", "default", "what it is"], rows)
    for network in facts.get("networks", []):
        click.echo(f"\n{network['role']}: {network['parameters']:,} parameters ({network['trainable']:,} trained)")
        print_table(["layer", "type", "parameters"], [[n, t, f"{c:,}"] for n, t, c in network["layers"]])
    if "recipe" in facts:
        click.echo(f"\nRecipe:\n{facts['recipe']}")
    for variant, changes in facts.get("recipes", {}).items():
        print_text(f"--recipe {variant}: {', '.join(f'{key}={value}' for key, value in changes.items())}", "  ")
    if "note" in facts:
        log(facts["note"])
