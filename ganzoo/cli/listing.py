"""ganzoo list, ganzoo show."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from ganzoo.api.parts import PRETRAINED, listed_kind
from ganzoo.api.parts import list as list_of
from ganzoo.cli.options import json_option, kind_option, matches
from ganzoo.cli.output import log, print_json, print_table, print_text
from ganzoo.cli.parameters import AnyPartParam, KindParam, WholeNumber
from ganzoo.contract.choice import Choice
from ganzoo.contract.hooks import KINDS, Component


def _warn_of_broken_plugins() -> None:
    from ganzoo.registry.zoo import zoo

    for plugin in zoo().plugins.values():
        for error in plugin.errors:
            log(f"Warning: {plugin.distribution} {plugin.version}: {error}")


class _Listed(KindParam):
    """What `ganzoo list` lists: a kind of part, or the word `pretrained`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The key of `KINDS`, or "pretrained". Raises UsageError, with near names, for another text."""
        return listed_kind(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The kinds that begin with `incomplete`."""
        return [CompletionItem(kind) for kind in (*KINDS, PRETRAINED) if kind.startswith(incomplete)]


@click.command("list")
@click.argument("kind", type=_Listed(), required=False)
@click.argument("pattern", required=False)
@json_option
def list_parts(kind: str | None, pattern: str | None, as_json: bool) -> None:
    """List the parts of a KIND, all of them or those whose name matches PATTERN; without a KIND, the names of all.

    \b
      ganzoo list
      ganzoo list architectures
      ganzoo list losses 'r*'
      ganzoo list pretrained

    A KIND is one of architectures, datasets, losses, optimizers, augmentations, extractors, evaluators, observers,
    launchers. No part is imported. `pretrained` lists the trained generators that are installed, with their scores and
    the command that trained each; they can be used in the place of a RUN.
    """
    from ganzoo.registry.describe import part_facts, summary
    from ganzoo.registry.zoo import zoo

    if kind == PRETRAINED:
        return _list_pretrained(pattern, as_json)
    found = [part for each in ([kind] if kind else KINDS) for part in zoo().components(each)]
    found = [part for part in found if matches(part.name, pattern)]
    _warn_of_broken_plugins()
    if as_json:
        return print_json(parts=[part_facts(part) for part in found])
    if kind is None:
        return _print_names(found, [member.name for member in zoo().pretrained() if matches(member.name, pattern)])
    if not found:
        log(f"No {kind} match {pattern!r}." if pattern else f"No {kind} are installed.")
    print_table(["name", "what it is", "from"], [[p.name, summary(p), f"{p.distribution} {p.version}"] for p in found])


def _list_pretrained(pattern: str | None, as_json: bool) -> None:
    """A row for each trained generator, then the command that trained each."""
    found = list_of(PRETRAINED, pattern)
    _warn_of_broken_plugins()
    if as_json:
        return print_json(pretrained=list(found))
    if not found:
        log(f"No trained generator matches {pattern!r}." if pattern else "No trained generator is installed.")
        return None
    rows = [
        [
            f"{PRETRAINED}:{each['name']}",
            "yes" if each["conditional"] else "no",
            f"{each['bytes'] / 1e6:.1f} MB",
            f"{each['epoch']:g}" if each["epoch"] else "",
            ", ".join(f"{line['score']} {line['value']:.3g}" for line in each["scores"]),
            ", ".join(dict.fromkeys(line["card"]["digest"][:8] for line in each["scores"])),
        ]
        for each in found
    ]
    print_table(["name", "classes", "weights", "epochs", "scores", "cards"], rows)
    for each in found:
        click.echo(f"{each['name']}: {each['command']}")
    log("Draw: `ganzoo sample pretrained:NAME`. The cards of the scores are in `ganzoo list pretrained --json`.")
    return None


def _print_names(parts: Sequence[Component], pretrained: Sequence[str]) -> None:
    """The number and the names of the parts of each kind, in lines of 80 columns at most."""
    for kind in (*KINDS, PRETRAINED):
        names = list(pretrained) if kind == PRETRAINED else [part.name for part in parts if part.kind == kind]
        # short names of different plugins may be the same: each is written once
        text = ", ".join(dict.fromkeys(names)) or "none is installed"
        lines = textwrap.wrap(text, 78, break_long_words=False, break_on_hyphens=False)
        click.echo("\n".join([f"{kind} ({len(names)})", *(f"  {line}" for line in lines)]))
    log("`ganzoo list KIND` describes the parts of a kind, `ganzoo show NAME` one part.")


@click.command()
@click.argument("name", type=AnyPartParam())
@kind_option
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
    print_json(**facts) if as_json else _print_facts(facts)


def _print_facts(facts: dict[str, Any]) -> None:
    from ganzoo.contract.recipe import Recipe
    from ganzoo.registry.describe import origin_in_words

    click.echo(f"{facts['name']}  ({facts['kind']}, from {origin_in_words(facts)})\n")
    print_text(facts["description"] + "\n")
    rows = [[o["name"], o["type"], str(o["default"]), o["description"]] for o in facts["options"]]
    if rows:
        print_table(["option", "type", "default", "what it is"], rows)
    for network in facts.get("networks", []):
        click.echo(f"\n{network['role']}: {network['parameters']:,} parameters ({network['trainable']:,} trained)")
        layers = [[layer["name"], layer["type"], f"{layer['parameters']:,}"] for layer in network["layers"]]
        print_table(["layer", "type", "parameters"], layers)
    if "recipe" in facts:
        click.echo(f"\nRecipe:\n{Recipe.from_dict(facts['recipe']).to_toml()}")
    for variant in facts.get("recipes", []):
        changes = ", ".join(f"{change['name']}={change['value']}" for change in variant["changes"])
        print_text(f"--recipe {variant['name']}: {changes}", "  ")
    if "note" in facts:
        log(facts["note"])
