"""Choice: a part with its options. Amount: a number with its unit."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ganzoo.contract.errors import UsageError


def short_name(choice: Choice | None) -> str:
    """The name of a part without its distribution; the class name for a location; empty for None."""
    return choice.name.rpartition("/")[2].rpartition(":")[2] if choice else ""


UNITS = ("steps", "images", "epochs")
# the lookahead excludes `grey:extractor=./cells.py:Cells`: a part by name, whose option has a location as its value
_LOCATION = re.compile(r"^(?![\w./-]+:\w+=)(?P<name>.+?\.py:[A-Za-z_]\w*)(?::(?P<options>.*))?$", re.DOTALL)
_AMOUNT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kM]?)\s*([a-z]*)\s*$")


@dataclasses.dataclass(frozen=True)
class Choice:
    """A part with options, by name (`dcgan:width=32`) or by location: file and class (`./my_gan.py:MyGAN:width=32`)."""

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, value: str | Mapping[str, Any] | Choice) -> Choice:
        """A Choice from its text, or from its JSON form `{"name": ..., "options": {...}}`.

        Raises UsageError for anything else.
        """
        if isinstance(value, Choice):
            return value
        if isinstance(value, Mapping):
            name, given = value.get("name"), value.get("options") or {}
            malformed = set(value) - {"name", "options"} or not isinstance(given, Mapping)
            if malformed or not isinstance(name, str) or not name.strip():
                raise UsageError(f"A part is written as a name with options, not as {dict(value)!r}.")
            return cls(name, dict(given))
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"A part is written `name` or `name:key=value,key=value`, not {value!r}.")
        location = _LOCATION.match(value)
        name, _, text = (location["name"], "", location["options"] or "") if location else value.partition(":")
        if not name.strip():
            raise UsageError(f"A part is written `name` or `name:key=value,key=value`: {value!r} has no name.")
        options: dict[str, str] = {}
        for pair in filter(None, text.split(",")):
            key, equals, setting = (word.strip() for word in pair.partition("="))
            if not equals and options:  # a comma inside a value: image-folder:path=holidays, 2024
                options[next(reversed(options))] += f",{pair}"
                continue
            if not equals or not key:
                raise UsageError(f"Options are written key=value: {pair!r} in {value!r} is not.")
            if key in options:
                raise UsageError(f"{value!r} gives the option {key!r} twice.")
            options[key] = setting
        return cls(name.strip(), options)

    @property
    def is_location(self) -> bool:
        """Whether the name is a class in a file, such as `./my_gan.py:MyGAN`."""
        return _LOCATION.match(self.name) is not None

    def __str__(self) -> str:
        pairs = ",".join(f"{key}={_plain(value)}" for key, value in self.options.items())
        return f"{self.name}:{pairs}" if pairs else self.name


def _plain(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "none"}[value]
        if value is None or value is True or value is False
        else str(value)
    )


@dataclasses.dataclass(frozen=True)
class Amount:
    """A length or an interval: `50 epochs`, `3000 steps`, `3M images`. `unit` is one of `UNITS`."""

    count: int
    unit: str

    @classmethod
    def parse(cls, value: str | int | Amount, unit: str = "") -> Amount:
        """An Amount from its text; `unit` is the unit of a number without one. Raises UsageError for anything else."""
        if isinstance(value, Amount):
            return value
        match = _AMOUNT.match(str(value))
        words = [word for word in UNITS if match and match[3] and word.startswith(match[3])]
        if not match or (match[3] and not words) or not (words or unit):
            raise UsageError(f"{value!r} is not an amount: write a number of {', '.join(UNITS)}, such as '50 epochs'.")
        # exact: in floats, 8.2 million is not a whole number
        count = Fraction(match[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[match[2]]
        if count.denominator != 1:
            raise UsageError(f"{value!r} is not a whole number of {(words or [unit])[0]}.")
        return cls(int(count), (words or [unit])[0])

    def count_of(self, step: int, images: int, epochs: float) -> float:
        """`step`, `images` or `epochs`: the number that is counted in the unit of this amount."""
        return {"steps": step, "images": images, "epochs": epochs}[self.unit]

    def __str__(self) -> str:
        return f"{self.count} {self.unit}"


def amount_in_words(amount: Amount) -> str:
    """An amount for a message: `1 epoch`, `50 epochs`. Files keep `str(amount)`, which is always in the plural."""
    return f"1 {amount.unit.removesuffix('s')}" if amount.count == 1 else str(amount)
