"""Recipe: all settings of a training. Plain data that can be merged, and read from and written to JSON and TOML."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.protocol import Protocol
from ganzoo.contract.renamed_fields import (
    RENAMED_FIELDS,
    accept_old_names,
    renaming_note,
    warn_of_old_names,
    with_old_names,
)
from ganzoo.contract.schedule import Schedule

BATCH_ORDERS = ("epochs", "epochs-drop-last", "stream", "replacement")
PRECISIONS = ("fp32", "bf16")
EMA_BUFFERS = ("averaged", "copied")
PREPROCESSING = ("flip", "dequantise")
FAKE_LABELS = ("reals", "uniform")
_LEAST = {
    "batch_size": 1,
    "accumulate": 1,
    "ema_half_life": 0,
    "ema_start": 0,
    "ema_ramp": 0,
    "score_samples": 0,
    "seed": 0,
    "freeze_d": 0,
}
#: fields that are left out of recipe.json at their defaults: recipes without them keep the digests of earlier versions
_LEFT_OUT = (
    *("early_stop", "preprocessing", "ema_buffers", "ema_start", "ema_ramp", "freeze_d", "joint_forward"),
    *("accumulate", "fake_labels"),
)
_INTERVALS = ("tick_every", "samples_every", "checkpoint_every", "score_every")
_PLAYERS = {"D", "G", "GD", "D.reals", "D.fakes", "D.lazy", "G.lazy", "G.new"}

#: field that names parts -> kind of these parts. The order is part of the digests of grid trials.
KIND_OF_FIELD = {
    "architecture": "architectures",
    "dataset": "datasets",
    "losses": "losses",
    "augmentations": "augmentations",
    "generator_optimizer": "optimizers",
    "discriminator_optimizer": "optimizers",
    "evaluators": "evaluators",
    "observers": "observers",
}


def parse_turns(text: str) -> list[list[str]]:
    """The turns of a step, in order; each is the list of the players that it updates.

    Commas separate turns. Players that are joined by a plus are updated simultaneously, on the same round.

    Players: `D` updates the discriminator; `D.reals` and `D.fakes` update it on the real or the fake images only;
    `G` updates the generator, and `G.new` does so on a new minibatch of reals; `GD` updates both networks by the
    generator's loss, with the generator's optimiser. `D.lazy` and `G.lazy` update a network by its losses that have an
    interval, in the steps where these are due.
    Raises UsageError for another player, for turns without `G` or `GD`, and for a turn that updates a network twice:
    two of `D`, `D.reals`, `D.fakes`, or one of them with `GD`, or both of `G`, `GD`.
    """
    turns = [[player.strip() for player in turn.split("+")] for turn in str(text).split(",")]
    for player in (player for turn in turns for player in turn):
        if player not in _PLAYERS:
            raise UsageError(f"turns={text!r} names {player!r}; the players are {', '.join(sorted(_PLAYERS))}.")
    if not any(player in ("G", "G.new", "GD") for turn in turns for player in turn):
        raise UsageError(f"turns={text!r} never trains the generator; write for example 'D,G'.")
    if any(sum(player[0] == network for player in turn) > 1 for turn in turns for network in "DG"):
        raise UsageError(
            f"turns={text!r}: a turn has at most one of D, D.reals, D.fakes, D.lazy, and at most one of G, G.new, "
            f"G.lazy, GD."
        )
    if any(len({player.endswith(".lazy") for player in turn}) > 1 for turn in turns):
        raise UsageError(f"turns={text!r}: D.lazy and G.lazy are turns of their own: join them by a comma.")
    if any("GD" in turn and len(turn) > 1 for turn in turns):
        raise UsageError(
            f"turns={text!r}: GD updates the discriminator as well, so it is not joined with another player by a plus: "
            f"both would change the same weights on one round. Write 'D,GD', one after the other."
        )
    return turns


def parse_early_stop(text: str) -> tuple[str, int]:
    """(score, patience) of the rule `SCORE patience=N`: stop after N scorings without a better value than before.

    Raises UsageError for any other text, and for a patience below 1.
    """
    match = re.fullmatch(r"\s*(\S+)\s+patience=(\d+)\s*", str(text))
    if not match:
        raise UsageError(f"early_stop={text!r} is not written 'SCORE patience=N', such as 'fid-domain patience=3'.")
    if int(match[2]) < 1:
        raise UsageError(f"early_stop={text!r}: the patience must be at least 1 scoring.")
    return match[1], int(match[2])


def parse_preprocessing(text: str) -> list[str]:
    """What is done to the reals, in order: some of `PREPROCESSING`, joined by plus. Raises UsageError for others."""
    names = [name.strip() for name in text.split("+")] if text.strip() else []
    if not set(names) <= set(PREPROCESSING) or len(set(names)) < len(names):
        raise UsageError(
            f"preprocessing={text!r} must name some of {', '.join(PREPROCESSING)}, each once, joined by a plus; empty: "
            f"none."
        )
    return names


def parse_subset(text: str, total: int) -> range:
    """Indices of the images, out of `total`, that a run uses: `all`, `first N` or `last N` (all if there are fewer).

    Raises UsageError for any other text.
    """
    text = str(text).strip()
    match = re.fullmatch(r"(first|last) ([1-9]\d*)", text)
    if text != "all" and not match:
        raise UsageError(f"subset={text!r} is not one of: all, first N, last N.")
    if not match:
        return range(total)
    count = min(int(match[2]), total)
    return range(count) if match[1] == "first" else range(total - count, total)


@accept_old_names
@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings that determine what a run computes. The fields are the keys of a recipe file.

    The old names of `RENAMED_FIELDS` are accepted by the constructor and `merged`, and can be read as attributes, each
    with a DeprecationWarning. Raises UsageError for a value that is not allowed.
    """

    architecture: Choice | None = None
    dataset: Choice | None = None
    losses: tuple[Choice, ...] = (Choice("nonsaturating"),)
    augmentations: tuple[Choice, ...] = ()
    observers: tuple[Choice, ...] = ()
    #: they score the generator during the training and at its end; the training does not depend on them
    evaluators: tuple[Choice, ...] = ()
    #: the updates of one step, in order; see `parse_turns`
    turns: str = "D,G"
    #: the generator's mode when it draws fakes for a turn that does not update it: `training`, or `inference` (batch
    #: norm with its moving statistics)
    generator_mode_for_discriminator: str = "training"
    #: whether a generator's turn uses the fakes of the discriminator's turn before it, or draws its own
    reuse_fakes: bool = False
    #: whether a turn of the discriminator alone shows it fakes and reals in one forward, fakes first: batch norm then
    #: has the statistics of both together, and spectral norm does one power iteration (Brock et al. 2019,
    #: arXiv:1809.11096)
    joint_forward: bool = False
    generator_optimizer: Choice = Choice("adam")
    #: None (`shared` in a file): one optimiser object updates both networks, with one step counter
    discriminator_optimizer: Choice | None = Choice("adam")
    batch_size: int = 64
    #: the gradients of a turn are computed over this number of equal parts of its batch, one after the other, and
    #: averaged: a step needs the memory of one part. It must divide `batch_size`. See `ganzoo.engine.accumulation`
    accumulate: int = 1
    #: the classes of the fakes: those of the `reals` of the batch, or `uniform`: drawn anew in each turn
    fake_labels: str = "reals"
    #: `epochs`: shuffled each epoch, with a smaller last batch (`epochs-drop-last`: without it); `stream`: shuffled
    #: each epoch, and a batch may hold the end of one epoch and the start of the next; `replacement`: each image is
    #: drawn at random, independently of the others
    batch_order: str = "epochs"
    #: what is done to the reals of each step, joined by plus, see `ganzoo.engine.preprocessing`: `flip`, `dequantise`
    preprocessing: str = ""
    #: which training images: all, first N, last N
    subset: str = "all"
    #: half-life in real images of the exponential moving average (EMA) of the generator's weights; 0: no EMA. It may be
    #: a schedule, such as `0 -> 500k by 20M`, see `ganzoo.contract.schedule`
    ema_half_life: int | float | str = 0
    #: whether the EMA's buffers, such as the statistics of batch norm, are `averaged` as the weights are, or `copied`
    ema_buffers: str = "averaged"
    #: until so many real images were seen, the EMA copies the weights
    ema_start: int = 0
    #: the half-life is at most this share of the real images seen; 0: no such limit
    ema_ramp: float = 0.0
    precision: str = "fp32"
    seed: int = 0
    length: Amount = Amount(50, "epochs")
    tick_every: Amount = Amount(50, "steps")
    samples_every: Amount = Amount(1, "epochs")
    checkpoint_every: Amount = Amount(5, "epochs")
    score_every: Amount = Amount(5, "epochs")
    #: how scores are measured, see `ganzoo.contract.protocol`, and the number of fakes; 0: the number of the protocol
    protocol: str = "default"
    score_samples: int = 0
    #: the score by which the best checkpoint is chosen; empty: the first score of the first evaluator
    best_by: str = ""
    #: rows x columns of the sample grid
    grid: str = "4x4"
    #: the first layers of the discriminator, those nearest to the images, that are not trained (Mo et al. 2020, "Freeze
    #: the Discriminator", arXiv:2002.10964)
    freeze_d: int = 0
    #: stop when a score has not improved for a number of scorings, see `parse_early_stop`; empty: never
    early_stop: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _typed(field.name, getattr(self, field.name)))
        _check_member("batch_order", self.batch_order, BATCH_ORDERS)
        _check_member("precision", self.precision, PRECISIONS)
        _check_member("ema_buffers", self.ema_buffers, EMA_BUFFERS)
        _check_member("fake_labels", self.fake_labels, FAKE_LABELS)
        mode = self.generator_mode_for_discriminator
        _check_member("generator_mode_for_discriminator", mode, ("training", "inference"))
        parse_turns(self.turns)
        parse_preprocessing(self.preprocessing)
        parse_subset(self.subset, 1)
        self.grid_shape  # noqa: B018  (raises UsageError for a bad grid)
        for name, least in _LEAST.items():
            if not isinstance(getattr(self, name), str) and getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        Protocol.named(self.protocol)
        if self.early_stop:
            object.__setattr__(self, "early_stop", "{} patience={}".format(*parse_early_stop(self.early_stop)))
        for name in ("length", *_INTERVALS):
            if getattr(self, name).count < 1:
                raise UsageError(f"{name} must be at least 1 {getattr(self, name).unit}, not {getattr(self, name)}.")
        if not self.losses:
            raise UsageError("A recipe needs at least one loss.")

    if not TYPE_CHECKING:  # hidden from type checkers, which would accept any attribute otherwise

        def __getattr__(self, name: str) -> Any:
            """The value of a field under its old name."""
            if name not in RENAMED_FIELDS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            warnings.warn(renaming_note([name]), DeprecationWarning, stacklevel=2)
            return with_old_names(self.to_dict())[name]

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(rows, columns) of the sample grid."""
        match = re.fullmatch(r"(\d{1,2})x(\d{1,2})", self.grid)
        if not match or not int(match[1]) * int(match[2]):
            raise UsageError(f"grid={self.grid!r} is not ROWSxCOLUMNS, such as 4x4.")
        return int(match[1]), int(match[2])

    def merged(self, changes: Mapping[str, Any]) -> Self:
        """This recipe with some fields replaced. A number without a unit in an interval has the unit of the length.

        Raises UsageError for a field that no recipe has, and for a value that is not allowed.
        """
        changes = warn_of_old_names(changes)
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
        """The fields as plain JSON values. `Recipe.from_dict` returns the same recipe from them.

        Fields that are newer than version 0.1 are left out at their defaults.
        """
        left_out = {field.name for field in dataclasses.fields(self) if _is_left_out(self, field)}
        return {name: value for name, value in self.every_field().items() if name not in left_out}

    def every_field(self) -> dict[str, Any]:
        """All fields as plain JSON values, also those that `to_dict` leaves out: to replace another recipe whole."""
        return {field.name: _to_json(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A recipe from the form that `to_dict` returns; fields that are missing have their defaults.

        Raises UsageError for a field that no recipe has, and for a value that is not allowed.
        """
        return cls().merged(warn_of_old_names(values))

    def to_toml(self) -> str:
        """The text of a recipe file, as `--recipe` reads it."""
        lines = [f"{name} = {_toml(value)}" for name, value in self.every_field().items() if value is not None]
        if self.discriminator_optimizer is None:
            lines.append('discriminator_optimizer = "shared"')
        return "\n".join(lines) + "\n"

    @staticmethod
    def read_json(path: Path) -> dict[str, Any]:
        """The fields of a run's recipe.json. Raises UsageError where it is none."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not the recipe.json of a run: {error}.") from None
        if not isinstance(found, dict):
            raise UsageError(f"{path} is not the recipe.json of a run: it is no JSON object.")
        return found

    @staticmethod
    def read_toml(path: Path) -> dict[str, Any]:
        """The fields that a recipe file sets, under the names it uses. Raises UsageError where it is not TOML."""
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is not a recipe file in TOML: {error}.") from None


def _is_left_out(recipe: Recipe, field: dataclasses.Field[Any]) -> bool:
    return field.name in _LEFT_OUT and getattr(recipe, field.name) == field.default


def check_accumulation(recipe: Recipe) -> None:
    """Raise UsageError where `accumulate` does not divide the batch, or cannot be used with `reuse_fakes`.

    It is for complete recipes: fields that fit together may be set one after the other.
    """
    parts = recipe.accumulate
    if recipe.batch_size % parts:
        raise UsageError(
            f"accumulate={parts} does not divide the batch of {recipe.batch_size}: its parts must have the same size; "
            f"choose another --accumulate or --batch-size."
        )
    if parts > 1 and recipe.reuse_fakes:
        raise UsageError(
            f"accumulate={parts} computes a batch in parts and keeps no fakes, so reuse_fakes=true cannot be used with "
            f"it; set reuse_fakes to false in a recipe file, or leave out --accumulate."
        )


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
    if name in ("reuse_fakes", "joint_forward"):
        if not isinstance(value, bool):
            raise UsageError(f"{name} must be true or false, not {value!r}.")
        return value
    if name == "ema_half_life" and Schedule.is_text(value):
        return str(_half_life_schedule(value))
    if name in ("ema_half_life", "ema_ramp"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{name} must be a number, not {value!r}.")
        return int(value) if value == int(value) and name == "ema_half_life" else value
    if name in ("batch_size", "accumulate", "ema_start", "score_samples", "seed", "freeze_d"):
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError(f"{name} must be a whole number, not {value!r}.")
        return value
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text, not {value!r}.")
    return value


def _half_life_schedule(text: str) -> Schedule:
    try:
        schedule = Schedule.parse(text)
    except UsageError as error:
        raise UsageError(f"ema_half_life: {error}") from None
    if schedule.base < 0 or schedule.final < 0:
        raise UsageError(f"ema_half_life must be at least 0, and the schedule {text!r} goes below.")
    return schedule


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
            f"{key if key.isascii() and key.isidentifier() else _toml(key)} = {_toml(item)}"
            for key, item in value.items()
        ]
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # TOML has no null, and a missing option would have its default; options read the word "none" as None
    text = json.dumps("none" if value is None else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # the one character that JSON allows and TOML does not
