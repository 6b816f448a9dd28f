"""Which part is meant, found without torch where names are enough."""

from __future__ import annotations

import ast

from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.hooks import KINDS
from ganzoo.contract.paths import whole
from ganzoo.contract.recipe import Choice
from ganzoo.zoo import zoo


def find_kind(choice: Choice) -> str:
    """The kind of the part of that name. Raises UsageError where there is none, or more than one."""
    if choice.is_location:
        return zoo().kind_of(choice)
    kinds = [kind for kind in KINDS if any(choice.name in (c.name, c.id) for c in zoo().components(kind))]
    if not kinds:
        names = [component.name for kind in KINDS for component in zoo().components(kind)]
        raise UsageError(
            f"There is no part {choice.name!r}.{did_you_mean(choice.name, names)} Name one that `ganzoo list` shows, "
            "or a place, FILE.py:Class."
        )
    if len(kinds) > 1:
        raise UsageError(f"{choice.name!r} is one of the {' and one of the '.join(kinds)}: say which by --kind.")
    return kinds[0]


def parts_of_file(file: str) -> list[tuple[Choice, str]]:
    """Every part that a file defines, in its order, each with its kind. Raises UsageError where there is none."""
    path = whole(file)
    if not path.is_file():
        raise UsageError(f"There is no file {file}.")
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{file} is not Python: {error}.") from None
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            choice = Choice(f"{file}:{node.name}")
            try:
                found.append((choice, zoo().kind_of(choice)))
            except UsageError:
                continue  # a class that is no part
    if not found:
        raise UsageError(f"{file} defines no part: a part is a class derived from one of {', '.join(KINDS.values())}.")
    return found
