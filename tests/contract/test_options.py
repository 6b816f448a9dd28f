"""A component's constructor is its configuration: options are read from it, converted and checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import click
import pytest
from torch import nn

import ganzoo
from ganzoo import UsageError
from ganzoo.contract.options import options_of, resolve


class Part:
    """One option of every sort."""

    def __init__(
        self,
        *,
        width: int = 64,
        rate: float = 0.5,
        name: str = "x",
        wide: bool = False,
        mode: Literal["a", "b"] = "a",
        layer: Literal[64, 128] = 64,
        share: Annotated[float, click.FloatRange(0, 1, max_open=True), "what it is"] = 0.5,
        clip: Annotated[float | None, click.FloatRange(min=0), "off by default"] = None,
        depth: int | None = 3,
    ) -> None:
        self.given = (width, rate, name, wide, mode, layer, share, clip, depth)


DEFAULTS = {
    "width": 64,
    "rate": 0.5,
    "name": "x",
    "wide": False,
    "mode": "a",
    "layer": 64,
    "share": 0.5,
    "clip": None,
    "depth": 3,
}


def test_options_are_read_from_the_signature():
    options = options_of(Part)
    assert {name: option.default for name, option in options.items()} == DEFAULTS
    assert {name: option.describe() for name, option in options.items()} == {
        "width": "integer",
        "rate": "float",
        "name": "text",
        "wide": "boolean",
        "mode": "a | b",
        "layer": "64 | 128",
        "share": "float, 0<=x<1",
        "clip": "float, x>=0",
        "depth": "integer",
    }
    assert options["share"].help == "what it is"
    assert [name for name, option in options.items() if option.optional] == ["clip", "depth"]


def test_a_part_without_a_constructor_has_no_options():
    class Bare(ganzoo.Augmentation):
        def forward(self, images):
            return images

    class Plain:
        pass

    assert options_of(Bare) == options_of(Plain) == {}
    with pytest.raises(UsageError, match=r"Loss bare has no option 'x'\. It has: no options\."):
        resolve(Plain, {"x": "1"}, "Loss bare")


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("width", "3", 3),
        ("width", 3, 3),
        ("rate", "1e-3", 1e-3),
        ("rate", 2, 2.0),
        ("name", "a b", "a b"),
        ("name", 5, "5"),
        ("wide", "yes", True),
        ("wide", "0", False),
        ("wide", True, True),
        ("mode", "b", "b"),
        ("layer", "128", 128),
        ("layer", 128, 128),
        ("share", "0", 0.0),
        ("clip", "2", 2.0),
        ("clip", "none", None),
        ("clip", None, None),
        ("depth", "none", None),
    ],
)
def test_values_take_the_type_of_their_option(name, given, expected):
    resolved = resolve(Part, {name: given}, "Part")
    assert resolved == {**DEFAULTS, name: expected}
    assert type(resolved[name]) is type(expected)
    assert resolve(Part, resolved, "Part") == resolved
    Part(**resolved)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("width", "3.5"),
        ("width", 3.7),
        ("width", 3.0),
        ("width", True),
        ("width", ""),
        ("width", None),
        ("width", [3]),
        ("rate", "fast"),
        ("rate", "nan"),
        ("rate", float("inf")),
        ("rate", False),
        ("name", None),
        ("name", ["x"]),
        ("name", {"x": 1}),
        ("wide", "perhaps"),
        ("wide", 3.5),
        ("mode", "c"),
        ("mode", "A"),
        ("layer", "65"),
        ("share", "1"),
        ("share", "-0.1"),
        ("clip", "-1"),
        ("clip", "nan"),
        ("depth", "few"),
    ],
)
def test_values_an_option_does_not_take_are_refused_by_name(name, given):
    with pytest.raises(UsageError) as error:
        resolve(Part, {name: given}, "Part x")
    assert str(error.value).startswith("Part x: ")
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_misspelt_option_names_the_near_one():
    with pytest.raises(UsageError, match=r"Part x has no option 'witdh'\. Did you mean 'width'.*It has: width, rate"):
        resolve(Part, {"witdh": "3"}, "Part x")


def positional(width: int = 3) -> None: ...
def untyped(*, width=3) -> None: ...
def without_default(*, width: int) -> None: ...
def unreadable(*, width: list[int] = []) -> None: ...  # noqa: B006
def two_types(*, width: int | str = 3) -> None: ...
def anything(*, width: Any = 3) -> None: ...
def collecting(**width: int) -> None: ...


@pytest.mark.parametrize(
    "part",
    [positional, untyped, without_default, unreadable, two_types, anything, collecting],
    ids=lambda p: p.__name__,
)
def test_a_constructor_that_is_no_configuration_breaks_the_contract(part):
    with pytest.raises(TypeError, match=f"{part.__name__}: .*'width'"):
        options_of(part)


def test_modules_of_torch_are_refused_too():
    class Torch(nn.Linear):
        pass

    with pytest.raises(TypeError, match="Torch: 'in_features' must be keyword-only"):
        options_of(Torch)
