"""Types of the arguments and options that commands share."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ganzoo.api.keywords import dataset_choice
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.hooks import KINDS, kind_named
from ganzoo.contract.schedule import Schedule


class PartParam(click.ParamType):
    """A parameter that names a part of one kind: `mnist`, `mnist:size=32`, or a location, `./file.py:Class`.

    Its value is a Choice. The name is not looked up here, so that parsing imports nothing.
    """

    def __init__(self, kind: str) -> None:
        #: a key of `KINDS`, such as "datasets"
        self.kind = kind
        self.name = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Choice:
        """The Choice for this text. Raises UsageError where it is not written like a part."""
        return dataset_choice(value) if self.kind == "datasets" else Choice.parse(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names of the kind that begin with `incomplete`, and after `name:` the options; without an import."""
        from ganzoo.cli.completion import part_items

        return part_items(self.kind, incomplete)


def _typed(ctx: click.Context, name: str) -> Any:
    """The value of an argument that is typed before the word to complete; None without one.

    Click leaves arguments unassigned where the last word is an option that has no value yet: then they are in `args`.
    """
    arguments = [param for param in ctx.command.params if isinstance(param, click.Argument)]
    if ctx.params.get(name) in (None, ()):
        with suppress(GanzooError, click.UsageError):
            for argument, text in zip(arguments, ctx.args, strict=False):
                if argument.name == name:
                    return argument.type.convert(text, argument, ctx)
    return ctx.params.get(name)


class AnyPartParam(click.ParamType):
    """A parameter that names a part of any kind. Its value is the text."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names of all kinds that begin with `incomplete`."""
        from ganzoo.cli.completion import any_part_items

        return any_part_items(incomplete)


class OptionPairParam(click.ParamType):
    """`KEY=VALUE`, an option of the command's architecture, or `dataset.KEY=VALUE`. Its value is the text."""

    name = "key=value"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The options of the architecture and the dataset that are typed before, with `=`."""
        from ganzoo.cli.completion import option_items

        return option_items(_typed(ctx, "architecture"), _typed(ctx, "dataset"), incomplete)


class RecipeParam(click.ParamType):
    """A recipe file, or the name of a recipe. Its value is the text."""

    name = "recipe"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The variants of the architecture that is typed before, or files."""
        from ganzoo.cli.completion import recipe_items

        return recipe_items(_typed(ctx, "architecture"), incomplete)


class RunParam(click.Path):
    """The directory of a run. Its value is a Path; whether it holds a run is checked when it is opened."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The runs whose path begins with `incomplete`, the newest first."""
        from ganzoo.cli.completion import run_items

        return run_items(incomplete)


class KindParam(click.ParamType):
    """A parameter that names a kind of part, in the singular or the plural. Its value is a key of `KINDS`."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The key of `KINDS`. Raises UsageError, with all kinds, for another text."""
        return kind_named(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The kinds that begin with `incomplete`."""
        return [CompletionItem(kind) for kind in KINDS if kind.startswith(incomplete)]


class WholeNumber(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Raises click's usage error, with the bounds, for another text."""
        low, high = self.min, self.max
        try:
            number: int | None = int(value)
        except (ValueError, TypeError):
            number = None
        if number is not None and (low is None or number >= low) and (high is None or number <= high):
            return number
        bounds = [f"{word} {end}" for word, end in (("at least", low), ("at most", high)) if end is not None]
        self.fail(f"{value!r} is not a whole number{' of ' if bounds else ''}{' and '.join(bounds)}.", param, ctx)


class HalfLife(WholeNumber):
    """A whole number of images, at least 0, or a schedule, which stays text."""

    def __init__(self) -> None:
        super().__init__(0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number or the schedule. Raises UsageError for a schedule that is not one, click's for other text."""
        return str(Schedule.parse(value)) if Schedule.is_text(value) else super().convert(value, param, ctx)


class PositiveNumber(click.FloatRange):
    """A finite number above 0."""

    name = "number"

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Raises click's usage error for another text."""
        try:
            number = float(value)
        except (ValueError, TypeError):
            number = 0.0
        if 0 < number < math.inf:
            return number
        self.fail(f"{value!r} is not a number above 0.", param, ctx)


class Shape(click.ParamType):
    """A parameter for the shape of a grid, written ROWSxCOLUMNS: `4x8` becomes (4, 8)."""

    name = "RxC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(rows, columns), both from 1 to 99. Raises UsageError for another text."""
        from ganzoo.contract.recipe import Recipe

        return value if isinstance(value, tuple) else Recipe(grid=value).grid_shape


class At(click.ParamType):
    """A parameter that chooses a saved generator: images seen, `epoch:20`, `step:5000`, `best` or `last`.

    Its value is the canonical form of `saved_generators.parse_at`.
    """

    name = "IMAGES|epoch:E|step:S|best|last"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number of images, or a word. Raises click's usage error for another text."""
        from ganzoo.storage.saved_generators import parse_at

        try:
            return parse_at(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The generators that the run has, which is typed before."""
        from ganzoo.cli.completion import moment_items

        typed = _typed(ctx, "run") or _typed(ctx, "runs") or None
        return moment_items(typed[-1] if isinstance(typed, tuple) else typed, incomplete)
