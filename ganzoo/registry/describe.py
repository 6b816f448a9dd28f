"""Describe a part as plain data: its options, recipe and networks, its kind, and what is wrong with its plugin."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, RefusedSpec, UsageError, did_you_mean
from ganzoo.contract.hooks import KINDS, Component
from ganzoo.contract.options import options_of
from ganzoo.contract.paths import absolute_path, is_file
from ganzoo.registry.plugins import Plugin, normal_id
from ganzoo.registry.source import file_of, refuse_other_api, source
from ganzoo.registry.zoo import Zoo, zoo

if TYPE_CHECKING:  # both import torch, and `ganzoo list` must not
    from torch import nn

    from ganzoo.contract.images import ImageSpec


def describe(zoo: Zoo, kind: str, choice: Choice, images: ImageSpec) -> dict[str, Any]:
    """Options, source and docstring of one part, as plain data. Networks of an architecture are built for `images`."""
    from ganzoo.contract.components import Architecture

    loaded = zoo.load(kind, choice)
    given = zoo.options(kind, choice)
    facts: dict[str, Any] = {
        **_origin(zoo, kind, choice),
        "description": inspect.getdoc(loaded) or "",
        "path": str(file) if (file := file_of(loaded)) else None,
        "options": [
            {"name": o.name, "type": o.describe(), "default": o.default, "value": given[o.name], "description": o.help}
            for o in options_of(loaded).values()
            if o.name in given
        ],
    }
    if issubclass(loaded, Architecture):
        facts["value_range"] = list(loaded.value_range)
        facts["conditional"] = loaded.conditional
        facts["recipe"] = loaded.recipe.to_dict()
        facts["recipes"] = [
            {"name": name, "changes": [{"name": field, "value": str(value)} for field, value in changes.items()]}
            for name, changes in loaded.recipes.items()
        ]
        try:
            networks = zoo.build(kind, choice).networks(images)
            facts["shape"] = str(images)
            facts["networks"] = [_network(*pair) for pair in zip(("generator", "discriminator"), networks, strict=True)]
        except RefusedSpec as error:
            facts["note"] = str(error)
    return facts


def _network(role: str, network: nn.Module) -> dict[str, Any]:
    # a parametrised layer (spectral norm) counts as one layer; the module that computes its weight is not listed
    leaves = [
        (name, module)
        for name, module in network.named_modules()
        if "parametrizations" not in name.split(".") and not dict(module.named_children()).keys() - {"parametrizations"}
    ]
    return {
        "role": role,
        # running statistics of batch norm count as parameters, as in Keras; they are not trained
        "parameters": sum(t.numel() for t in network.state_dict().values() if t.is_floating_point()),
        "trainable": sum(p.numel() for p in network.parameters()),
        "layers": [
            {
                "name": name or type(module).__name__,
                "type": type(module).__name__,
                "parameters": sum(t.numel() for t in module.state_dict().values()),
            }
            for name, module in leaves
        ],
    }


def _origin(zoo: Zoo, kind: str, choice: Choice) -> dict[str, Any]:
    """Name and kind of a part, and where it comes from. A part of a file has no id, distribution and version."""
    component = None if choice.is_location else zoo.find(kind, choice.name)
    return {
        "name": choice.name,
        "id": component.id if component else None,
        "kind": kind,
        "distribution": component.distribution if component else None,
        "version": component.version if component else None,
        "target": component.target if component else choice.name,
    }


def origin_in_words(facts: Mapping[str, Any]) -> str:
    """Where the part that `describe` describes comes from: `torch-ganzoo 0.1.0`, or its location."""
    return f"{facts['distribution']} {facts['version']}".rstrip() if facts["distribution"] else str(facts["target"])


def part_facts(component: Component) -> dict[str, Any]:
    """One part in a list, as plain data, without importing it."""
    return {
        "name": component.name,
        "id": component.id,
        "kind": component.kind,
        "distribution": component.distribution,
        "version": component.version,
        "target": component.target,
        "description": summary(component),
    }


def summary(component: Component) -> str:
    """The first line of a part's docstring, read from its source without importing anything; empty if there is none."""
    return _summary(component.target, 5)


def _summary(target: str, steps: int) -> str:
    """`summary` of `package.module:Class`, through at most `steps` modules that import the class from another one."""
    module, _, name = target.partition(":")
    try:
        file = source(target)
        body = ast.parse(file.read_text(encoding="utf-8")).body if file else []
    except (OSError, SyntaxError, ValueError, ImportError):
        return ""
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0].strip()
        if isinstance(node, ast.ImportFrom) and steps:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = module if file and file.name == "__init__.py" else module.rpartition(".")[0]
                    base = (
                        ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
                    )
                    return _summary(f"{'.'.join(filter(None, (base, node.module)))}:{alias.name}", steps - 1)
    return ""


def faults(plugin: Plugin) -> list[str]:
    """Everything that is wrong with a plugin, as far as it can be seen without importing its parts and commands."""
    found = list(plugin.errors)
    targets = [(f"{component.kind} {component.name}", component.target) for component in plugin.components]
    targets += [(f"command {command.name}", command.target) for command in plugin.commands]
    for name, target in targets:
        try:
            file = source(target)
            if file is None:
                found.append(f"{name}: there is no module {target.partition(':')[0]}")
            else:
                ast.parse(file.read_text(encoding="utf-8"))
                refuse_other_api(file, "it")
        except SyntaxError as error:
            found.append(f"{name}: SyntaxError: {error.msg} ({file}, line {error.lineno})")
        except GanzooError as error:
            found.append(f"{name}: {error}")
        except (OSError, ValueError, ImportError) as error:
            found.append(f"{name}: {type(error).__name__}: {error}")
    return found


def find_kind(choice: Choice) -> str:
    """The kind of the part that a choice names. Raises UsageError where there is none, or more than one."""
    if choice.is_location:
        return zoo().kind_of(choice)
    name = normal_id(choice.name)
    kinds = [kind for kind in KINDS if any(name in (c.name, c.id) for c in zoo().components(kind))]
    if not kinds:
        names = [component.name for kind in KINDS for component in zoo().components(kind)]
        raise UsageError(
            f"There is no part {choice.name!r}.{did_you_mean(choice.name, names)} Name one that `ganzoo list` shows, "
            "or a location, FILE.py:Class."
        )
    if len(kinds) > 1:
        raise UsageError(f"{choice.name!r} is one of the {' and one of the '.join(kinds)}: say which by --kind.")
    return kinds[0]


def parts_of_file(file: str) -> list[tuple[Choice, str]]:
    """Every part that a file defines, in order of its lines, each with its kind. Raises UsageError without any."""
    path = absolute_path(file)
    if not is_file(path):
        raise UsageError(f"There is no file {file}.")
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{file} is not Python: {error}.") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): change its permissions.") from None
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            choice = Choice(f"{file}:{node.name}")
            try:
                found.append((choice, zoo().kind_of(choice)))
            except UsageError:
                continue  # this class is no part
    if not found:
        raise UsageError(f"{file} defines no part: a part is a class derived from one of {', '.join(KINDS.values())}.")
    return found
