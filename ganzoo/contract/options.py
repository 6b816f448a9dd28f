"""Options of a part: the keyword arguments of its constructor. Types and bounds are annotations, checked by click.

`width: int = 64`, `mode: Literal["a", "b"] = "a"`,
`share: Annotated[float, click.FloatRange(0, 1), "what it is"] = 0.5`.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

import click

from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Option:
    """One keyword argument of a constructor."""

    name: str
    type: click.ParamType
    default: Any
    help: str = ""
    #: whether None is allowed; in text it is written `none`
    optional: bool = False

    def describe(self) -> str:
        """The type and its bounds as text, such as `integer, x>=1`, or the allowed values of a choice."""
        if isinstance(self.type, click.Choice):
            return " | ".join(map(str, self.type.choices))
        bounds = getattr(self.type, "_describe_range", lambda: "")()
        return f"{self.type.name.removesuffix(' range')}{', ' + bounds if bounds else ''}"

    def convert(self, value: Any, owner: str, schedules: bool = False) -> Any:
        """`value` (text, or of the type already) as this option's type, within its bounds.

        With `schedules`, a number that is not whole may also be a schedule (see `ganzoo.contract.schedule`), which
        stays text. Raises UsageError, which names `owner`, for another value.
        """
        if self.is_number and Schedule.is_text(value):
            return self._converted_schedule(value, owner, schedules)
        if value is None or (self.optional and value in ("none", "")):
            if self.optional:
                return None
            raise UsageError(f"{owner}: option {self.name!r} needs a value.")
        if isinstance(value, list | tuple | Mapping):
            raise UsageError(f"{owner}: {self.name!r} takes one value, not {value!r}.")
        if isinstance(value, bool | int | float):
            value = str(value).lower()  # as text: click converts 3.7 to the integer 3, but refuses "3.7"
        try:
            converted = self.type.convert(value, None, None)
        except click.BadParameter as error:
            message = error.message.rstrip(".")
            for words, plain in (("a valid integer range", "a whole number"), ("a valid float range", "a number")):
                if words in message:
                    message = f"{message.replace(words, plain)} ({self.describe()})"
            raise UsageError(f"{owner}: invalid value for {self.name!r}: {message}.") from None
        if isinstance(converted, float) and not math.isfinite(converted):
            raise UsageError(f"{owner}: {self.name!r} must be a finite number, not {value!r}.")
        return converted

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers that need not be whole."""
        return isinstance(self.type, click.FloatRange | click.types.FloatParamType)

    def _converted_schedule(self, text: str, owner: str, allowed: bool) -> str:
        if not allowed:
            raise UsageError(f"{owner}: {self.name!r} cannot follow a schedule, only one number: it was {text!r}.")
        try:
            schedule = Schedule.parse(text)
        except UsageError as error:
            raise UsageError(f"{owner}: invalid value for {self.name!r}: {error}") from None
        for end in (schedule.base, schedule.final):
            self.convert(end, owner)
        return str(schedule)


#: kind -> options that every part of it has beside those of its constructor
COMMON_OPTIONS = {
    "losses": {
        "every": Option("every", click.IntRange(min=1), 1, "steps from one use to the next; its value is times these")
    }
}
#: kinds whose numbers may follow a schedule
SCHEDULED_KINDS = ("losses", "augmentations", "optimizers")


def _option(parameter: inspect.Parameter, annotation: Any, owner: str) -> Option:
    kind: click.ParamType | None = None
    text, optional = "", False
    if typing.get_origin(annotation) is typing.Annotated:
        annotation, *extras = typing.get_args(annotation)
        for extra in extras:
            if isinstance(extra, click.ParamType):
                kind = extra
            elif isinstance(extra, str):
                text = extra
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        if len(members) == 1:  # `int | str` would be ambiguous
            optional, annotation = True, members[0]
    if kind is None and typing.get_origin(annotation) is Literal:
        kind = click.Choice(typing.get_args(annotation))
    if kind is None:
        if annotation not in (int, float, str, bool):
            raise TypeError(f"{owner}: option {parameter.name!r} must be an int, float, str, bool or Literal.")
        kind = click.types.convert_type(annotation)
    return Option(parameter.name, kind, parameter.default, text, optional)


def options_of(component: Callable[..., Any]) -> dict[str, Option]:
    """The options of a component class, in the order of its signature.

    Raises TypeError where an argument is not keyword-only, or has no type or no default.
    """
    owner = getattr(component, "__name__", str(component))
    target = component.__init__ if inspect.isclass(component) else component
    hints = typing.get_type_hints(target, include_extras=True)
    options = {}
    for parameter in inspect.signature(component).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.default is inspect.Parameter.empty:
            raise TypeError(f"{owner}: {parameter.name!r} must be keyword-only and have a default.")
        if parameter.name not in hints:
            raise TypeError(f"{owner}: {parameter.name!r} has no type.")
        options[parameter.name] = _option(parameter, hints[parameter.name], owner)
    return options


def resolve(component: Callable[..., Any], given: Mapping[str, Any], owner: str, kind: str = "") -> dict[str, Any]:
    """All options of `component`: the given ones converted and checked, the others with their defaults.

    Of the options that all parts of a `kind` have, and of the `newer_options` of a loss, only those that are given and
    are not at their default are among them.
    Raises UsageError, which names `owner`, for an option that the component does not have, and for a wrong value.
    """
    own = options_of(component)
    common = {name: option for name, option in COMMON_OPTIONS.get(kind, {}).items() if name not in own}
    options = {**own, **common}
    for name in given:
        if name not in options:
            known = ", ".join(options) or "no options"
            raise UsageError(f"{owner} has no option {name!r}.{did_you_mean(name, options)} It has: {known}.")
    schedules = kind in SCHEDULED_KINDS
    resolved = {
        name: option.convert(given[name], owner, schedules) if name in given else option.default
        for name, option in options.items()
    }
    left_out = {*common, *getattr(component, "newer_options", ())}
    return {name: value for name, value in resolved.items() if name not in left_out or value != options[name].default}


def split_schedules(component: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Schedule]:
    """The schedules among resolved options of `component`, by option."""
    numbers = {name for name, option in options_of(component).items() if option.is_number}
    return {
        name: Schedule.parse(value) for name, value in options.items() if name in numbers and Schedule.is_text(value)
    }
