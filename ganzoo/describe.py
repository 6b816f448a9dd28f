"""Describe: all there is to say of one part, as plain data."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import RefusedSpec
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.options import options_of
from ganzoo.contract.recipe import Choice
from ganzoo.zoo import Zoo


def describe(zoo: Zoo, kind: str, choice: Choice, images: ImageSpec) -> dict[str, Any]:
    """All there is to say of one part, as plain data; an architecture's networks are built for `images`."""
    loaded = zoo.load(kind, choice)
    given = zoo.options(kind, choice)
    origin = zoo.provenance(kind, choice)
    facts: dict[str, Any] = {
        "name": choice.name,
        "kind": kind,
        "from": f"{origin['id'].partition('/')[0]} {origin['version']}" if "id" in origin else origin["location"],
        "description": inspect.getdoc(loaded) or "",
        "source": inspect.getsourcefile(loaded),
        "options": [
            {"name": o.name, "type": o.describe(), "default": o.default, "value": given[o.name], "help": o.help}
            for o in options_of(loaded).values()
            if o.name in given
        ],
    }
    if issubclass(loaded, Architecture):
        facts["value_range"] = list(loaded.value_range)
        facts["conditional"] = loaded.conditional
        facts["recipe"] = loaded.recipe.to_toml()
        facts["recipes"] = {name: {k: str(v) for k, v in changes.items()} for name, changes in loaded.recipes.items()}
        try:
            networks = zoo.build(kind, choice).networks(images)
            facts["images"] = str(images)
            facts["networks"] = [_network(*pair) for pair in zip(("generator", "discriminator"), networks, strict=True)]
        except RefusedSpec as error:
            facts["note"] = str(error)
    return facts


def _network(role: str, network: nn.Module) -> dict[str, Any]:
    # a parametrised layer (spectral norm) is one layer: what computes its weight is not another
    leaves = [
        (name, module)
        for name, module in network.named_modules()
        if "parametrizations" not in name.split(".") and not dict(module.named_children()).keys() - {"parametrizations"}
    ]
    return {
        "role": role,
        # moving statistics count as parameters where the field counts them (Keras), and are not trained
        "parameters": sum(t.numel() for t in network.state_dict().values() if t.is_floating_point()),
        "trainable": sum(p.numel() for p in network.parameters()),
        "layers": [
            (name or type(module).__name__, type(module).__name__, sum(t.numel() for t in module.state_dict().values()))
            for name, module in leaves
        ],
    }
