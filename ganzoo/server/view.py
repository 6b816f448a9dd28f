"""A view: the text in a page's requests that says which image is asked for, and its check."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from ganzoo.contract.errors import UsageError
from ganzoo.server.latent_space import DIRECTIONS

#: parameters of a view; all others are refused
PARAMETERS = ("point", "along", "across", "move", "truncation", "class", "at", "directions")
#: a step along a direction is at most this many standard deviations
FARTHEST = 20.0
_SEED = re.compile(r"[0-9]{1,15}")
_MOVE = re.compile(r"([0-9]{1,3}):(-?[0-9]+(?:\.[0-9]+)?)")
_DECIMAL = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")


@dataclass(frozen=True)
class Point:
    """A latent: the first one of a seed, as `ganzoo sample --seed SEED -n 1` draws it, moved along directions."""

    seed: int
    #: pairs of a direction's index and a number of standard deviations
    moves: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class View:
    """One image of a run: its latent, its class, and the generator that draws it."""

    #: one, or the two to four between which the latent is, see `latent_space.walk`
    points: tuple[Point, ...]
    along: float = 0.0
    across: float = 0.0
    #: steps after the walk
    moves: tuple[tuple[int, float], ...] = ()
    #: largest absolute value of the latents of seeds, see `latent_space.truncated`; None: any
    truncation: float | None = None
    label: int = 0
    #: images seen of the generator, and of the one whose directions are used; None: the newest
    at: int | None = None
    directions: int | None = None

    @property
    def is_sample(self) -> bool:
        """Whether the latent is that of a seed, perhaps truncated: `ganzoo sample` draws it without a file."""
        return len(self.points) == 1 and not self.points[0].moves and not self.moves

    @property
    def name(self) -> str:
        """A name for a file of this image: `seed-7`, `seed-7-moved`, `walk-7-9`."""
        seeds = "-".join(str(point.seed) for point in self.points)
        changed = self.moves or any(point.moves for point in self.points)
        words = [f"seed-{seeds}" if len(self.points) == 1 else f"walk-{seeds}"]
        words += ["moved"] if changed else []
        words += [f"truncation-{self.truncation:g}"] if self.truncation is not None else []
        words += [f"class-{self.label}"] if self.label else []
        words += [f"at-{self.at}"] if self.at is not None else []
        return "-".join(words)

    @classmethod
    def parse(cls, query: str) -> View:
        """The view that a query string names: `point=7&move=0:1.5&class=3`. Raises UsageError for any other text."""
        try:
            found = parse_qs(query, keep_blank_values=True, strict_parsing=True, max_num_fields=32, errors="strict")
        except ValueError:
            raise UsageError(f"{query[:80]!r} is not a query such as point=7&class=3.") from None
        return cls.from_parameters(found)

    @classmethod
    def from_parameters(cls, given: Mapping[str, Sequence[str]]) -> View:
        """The view with these parameters, each a list of texts. Raises UsageError for any other ones."""
        for name, values in given.items():
            if name not in PARAMETERS:
                raise UsageError(f"{name[:40]!r} is not one of {', '.join(PARAMETERS)}.")
            if len(values) != 1 and name != "point":
                raise UsageError(f"{name} is given {len(values)} times, it may be given once.")
        points = tuple(_point(text) for text in given.get("point", ()))
        if not 1 <= len(points) <= 4:
            raise UsageError(f"A view has one to four points, not {len(points)}: point=SEED for each.")
        one = {name: values[0] for name, values in given.items() if name != "point"}
        return cls(
            points,
            _share(one, "along"),
            _share(one, "across"),
            _moves(one.get("move", "")),
            _limit(one.get("truncation")),
            _whole(one, "class") or 0,
            _whole(one, "at"),
            _whole(one, "directions"),
        )


def _point(text: str) -> Point:
    seed, _, moves = text.partition(",")
    if not _SEED.fullmatch(seed):
        raise UsageError(f"point={text[:40]!r} is not a seed, a whole number from 0, or SEED,DIRECTION:STEPS,...")
    return Point(int(seed), _moves(moves))


def _moves(text: str) -> tuple[tuple[int, float], ...]:
    found = []
    for part in text.split(",") if text else ():
        match = _MOVE.fullmatch(part)
        index, amount = (int(match[1]), float(match[2])) if match else (DIRECTIONS, math.inf)
        if index >= DIRECTIONS or abs(amount) > FARTHEST:
            raise UsageError(
                f"{part[:40]!r} is not DIRECTION:STEPS with a direction from 0 to {DIRECTIONS - 1} and steps from "
                f"-{FARTHEST:g} to {FARTHEST:g}."
            )
        if amount:
            found.append((index, amount))
    return tuple(found)


def _share(given: Mapping[str, str], name: str) -> float:
    text = given.get(name, "0")
    if not _DECIMAL.fullmatch(text) or float(text) > 1:
        raise UsageError(f"{name}={text[:40]!r} is not a number from 0 to 1.")
    return float(text)


def _limit(text: str | None) -> float | None:
    if text is None:
        return None
    if not _DECIMAL.fullmatch(text) or not 0.01 <= float(text) <= 8:
        raise UsageError(f"truncation={text[:40]!r} is not a number from 0.01 to 8.")
    return float(text)


def _whole(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not _SEED.fullmatch(text):
        raise UsageError(f"{name}={text[:40]!r} is not a whole number from 0.")
    return int(text)
