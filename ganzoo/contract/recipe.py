"""Recipe: names and numbers, nothing else. Plain data that merges, and travels as JSON and TOML."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.protocol import Protocol

SAMPLINGS = ("epochs", "epochs-drop-last", "stream", "replacement")
PRECISIONS = ("fp32", "bf16")
_INTERVALS = ("tick_every", "samples_every", "checkpoint_every", "score_every")
_PLAYERS = {"D", "G", "GD", "D.reals", "D.fakes"}


def parse_turns(text: str) -> list[list[str]]:
    """The order of play: a comma is *then*, a plus is *together, on the same round*.

    Players: `D` the discriminator; `D.reals` and `D.fakes` the discriminator judged on one side of the round only;
    `G` the generator; `GD` the generator's cost moving both networks with the generator's optimiser.
    """
    turns = [[player.strip() for player in turn.split("+")] for turn in str(text).split(",")]
    for player in (player for turn in turns for player in turn):
        if player not in _PLAYERS:
            raise UsageError(f"turns={text!r} names {player!r}; the players are {', '.join(sorted(_PLAYERS))}.")
    if not any(player in ("G", "GD") for turn in turns for player in turn):
        raise UsageError(f"turns={text!r} never moves the generator; write for example 'D,G'.")
    if any(sum(player[0] == network for player in turn) > 1 for turn in turns for network in "DG"):
        raise UsageError(
            f"turns={text!r}: a player moves once in a turn; D, D.reals and D.fakes are one player, G and GD another."
        )
    return turns


def parse_subset(text: str, total: int) -> range:
    """Which images of `total` a run uses: `all`, `first N` or `last N` (all, where there are fewer than N)."""
    match = re.fullmatch(r"(first|last) ([1-9]\d*)", str(text).strip())
    if text != "all" and not match:
        raise UsageError(f"subset={text!r} is not one of: all, first N, last N.")
    if not match:
        return range(total)
    count = min(int(match[2]), total)
    return range(count) if match[1] == "first" else range(total - count, total)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that says what a run computes. The fields are the keys of a recipe file.

    Raises UsageError for a value no run could mean.
    """

    architecture: Choice | None = None
    dataset: Choice | None = None
    losses: tuple[Choice, ...] = (Choice("nonsaturating"),)
    augmentations: tuple[Choice, ...] = ()
    observers: tuple[Choice, ...] = ()
    #: what the generator is scored by during the training and at its end; nothing of it reaches the training
    evaluators: tuple[Choice, ...] = ()
    #: order of play of one step, see `parse_turns`
    turns: str = "D,G"
    #: the generator's mode when it draws fakes for a turn that does not move it: training, or inference (moving
    #: statistics)
    discriminator_fakes: str = "training"
    #: what a generator's turn is judged on: fakes drawn anew, or those that the turn before it was played on
    generator_fakes: str = "fresh"
    generator_optimizer: Choice = Choice("adam")
    #: None: the generator's own optimiser object serves both players, and its step counter is shared
    discriminator_optimizer: Choice | None = Choice("adam")
    batch_size: int = 64
    #: epochs: reshuffled each epoch, the last smaller batch kept (epochs-drop-last: dropped); stream: reshuffled each
    #: epoch, batches cross the border; replacement: every image drawn anew
    sampling: str = "epochs"
    #: which training images: all, first N, last N
    subset: str = "all"
    #: half-life of the generator's moving average in images; 0 for none
    average_half_life: int = 0
    precision: str = "fp32"
    seed: int = 0
    length: Amount = Amount(50, "epochs")
    tick_every: Amount = Amount(50, "steps")
    samples_every: Amount = Amount(1, "epochs")
    checkpoint_every: Amount = Amount(5, "epochs")
    score_every: Amount = Amount(5, "epochs")
    #: how scores are measured, see `ganzoo.contract.protocol`, and the number of fakes; 0 for the protocol's
    protocol: str = "default"
    score_samples: int = 0
    #: the score by which the best checkpoint is kept; empty for the first of the first evaluator
    best_by: str = ""
    #: rows x columns of the sample grid
    grid: str = "4x4"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _typed(field.name, getattr(self, field.name)))
        _check_member("sampling", self.sampling, SAMPLINGS)
        _check_member("precision", self.precision, PRECISIONS)
        _check_member("discriminator_fakes", self.discriminator_fakes, ("training", "inference"))
        _check_member("generator_fakes", self.generator_fakes, ("fresh", "replayed"))
        parse_turns(self.turns)
        parse_subset(self.subset, 1)
        self.grid_shape  # noqa: B018  (a bad grid is refused here)
        for name, least in (("batch_size", 1), ("average_half_life", 0), ("score_samples", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        Protocol.named(self.protocol)
        for name in ("length", *_INTERVALS):
            if getattr(self, name).count < 1:
                raise UsageError(f"{name} must be at least 1 {getattr(self, name).unit}, not {getattr(self, name)}.")
        if not self.losses:
            raise UsageError("A recipe needs at least one loss.")

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(rows, columns) of the sample grid."""
        match = re.fullmatch(r"(\d{1,2})x(\d{1,2})", self.grid)
        if not match or not int(match[1]) * int(match[2]):
            raise UsageError(f"grid={self.grid!r} is not ROWSxCOLUMNS, such as 4x4.")
        return int(match[1]), int(match[2])

    def merged(self, changes: Mapping[str, Any]) -> Self:
        """This recipe with some fields replaced. A bare number in an interval is counted in the length's unit."""
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise UsageError(
                    f"A recipe has no field {name!r}.{did_you_mean(name, names)} It has: {', '.join(names)}."
                )
        unit = Amount.parse(changes.get("length", self.length)).unit
        intervals = {name: Amount.parse(changes[name], unit) for name in _INTERVALS if name in changes}
        return dataclasses.replace(self, **{**changes, **intervals})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `Recipe.from_dict` gives the same recipe back."""
        return {field.name: _to_json(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A recipe from `to_dict`'s form. Raises UsageError for a field that no recipe has."""
        return cls().merged(values)

    def to_toml(self) -> str:
        """The recipe as a file that `--recipe` reads."""
        lines = [f"{name} = {_toml(value)}" for name, value in self.to_dict().items() if value is not None]
        if self.discriminator_optimizer is None:
            lines.append('discriminator_optimizer = "shared"')
        return "\n".join(lines) + "\n"

    @staticmethod
    def read_toml(path: Path) -> dict[str, Any]:
        """The fields a recipe file sets (any subset of them). Raises UsageError where it is not TOML."""
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is not a recipe file in TOML: {error}.") from None


def _typed(name: str, value: Any) -> Any:
    if name in ("losses", "augmentations", "observers", "evaluators"):
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(Choice.parse(item) for item in items)
    if value is None and name in ("architecture", "dataset", "discriminator_optimizer"):
        return None
    if name in ("architecture", "dataset", "generator_optimizer", "discriminator_optimizer"):
        return None if name == "discriminator_optimizer" and value == "shared" else Choice.parse(value)
    if name in ("length", *_INTERVALS):
        return Amount.parse(value)
    if name in ("batch_size", "average_half_life", "score_samples", "seed"):
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError(f"{name} must be a whole number, not {value!r}.")
        return value
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text, not {value!r}.")
    return value


def _check_member(name: str, value: str, members: tuple[str, ...]) -> None:
    if value not in members:
        raise UsageError(f"{name}={value!r} is not one of: {', '.join(members)}.{did_you_mean(value, members)}")


def _to_json(value: Any) -> Any:
    if isinstance(value, Choice):
        return {"name": value.name, "options": dict(value.options)} if value.options else value.name
    if isinstance(value, Amount):
        return str(value)
    return [_to_json(item) for item in value] if isinstance(value, tuple) else value


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = [
            f"{key if key.isascii() and key.isidentifier() else json.dumps(key)} = {_toml(item)}"
            for key, item in value.items()
        ]
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # TOML has no null, and an option left out would be its default again; the options read this word
    text = json.dumps("none" if value is None else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # the one character that JSON prints and TOML does not


KIND_OF_FIELD = {
    "architecture": "architectures",
    "dataset": "datasets",
    "losses": "losses",
    "augmentations": "augmentations",
    "observers": "observers",
    "evaluators": "evaluators",
    "generator_optimizer": "optimizers",
    "discriminator_optimizer": "optimizers",
}
