"""Recipe fields that were renamed in version 0.2: the old names are read until version 0.3."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ganzoo.contract.errors import UsageError

_Class = TypeVar("_Class", bound=type)

#: old name of a field -> current name
RENAMED_FIELDS = {
    "average_half_life": "ema_half_life",
    "sampling": "batch_order",
    "discriminator_fakes": "generator_mode_for_discriminator",
    "generator_fakes": "reuse_fakes",
}
#: the values of `generator_fakes` -> those of `reuse_fakes`; the other fields have the values they had
_REUSE_FAKES = {"fresh": False, "replayed": True}


def with_current_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` with old names and values replaced by the current ones.

    Raises UsageError where a field is set under both of its names.
    """
    current: dict[str, Any] = {}
    for name, value in fields.items():
        if name in RENAMED_FIELDS and RENAMED_FIELDS[name] in fields:
            raise UsageError(f"{name} is the old name of {RENAMED_FIELDS[name]}: set only one of the two.")
        if name == "generator_fakes" and value not in tuple(_REUSE_FAKES):
            raise UsageError(f"{name}={value!r} is not one of: {', '.join(_REUSE_FAKES)}.")
        current[RENAMED_FIELDS.get(name, name)] = _REUSE_FAKES[value] if name == "generator_fakes" else value
    return current


def with_old_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`Recipe.to_dict()` with the names and values of version 0.1. Digests of recipes are computed from it.

    Directories and records are named after digests of recipes. Because the digests stay the same, a grid or speedrun of
    version 0.1 can be continued, and its finished trainings are found.
    """
    old_names = {new: old for old, new in RENAMED_FIELDS.items()}
    old_fields = {old_names.get(name, name): value for name, value in fields.items()}
    return old_fields | {"generator_fakes": "replayed" if fields["reuse_fakes"] else "fresh"}


def renaming_note(names: Iterable[str]) -> str:
    """A sentence with the current name of each old name among `names`; empty where there is none."""
    renamed = [f"{name} is now called {RENAMED_FIELDS[name]}" for name in names if name in RENAMED_FIELDS]
    return (
        f"Recipe fields have new names: {', '.join(renamed)}. The old names work until version 0.3." if renamed else ""
    )


def warn_of_old_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`with_current_names(fields)`, with a DeprecationWarning for the caller's caller where there are old names."""
    if note := renaming_note(fields):
        warnings.warn(note, DeprecationWarning, stacklevel=3)
    return with_current_names(fields)


def accept_old_names(recipe_class: _Class) -> _Class:
    """Class decorator: the constructor also accepts the old names, with a DeprecationWarning."""
    init = recipe_class.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def __init__(self: Any, **fields: Any) -> None:
        init(self, **warn_of_old_names(fields))

    recipe_class.__init__ = __init__  # type: ignore[misc]
    return recipe_class
