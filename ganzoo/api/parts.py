"""List and show: the parts that can be used by name. Listing imports no part, and no torch."""

from __future__ import annotations

import fnmatch

from ganzoo.api.display import Description, PartList, PretrainedList
from ganzoo.api.keywords import Part
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.hooks import kind_named

#: lists trained generators in the place of a kind
PRETRAINED = "pretrained"


def matches(name: str, pattern: str | None) -> bool:
    """Whether a name matches a pattern with wildcards, or contains one without."""
    if not pattern:
        return True
    return fnmatch.fnmatch(name, pattern) if set(pattern) & set("*?[") else pattern in name


def listed_kind(text: str) -> str:
    """The key of `KINDS` for a kind in the singular or the plural, or "pretrained". Raises UsageError for others."""
    if text == PRETRAINED:
        return text
    try:
        return kind_named(text)
    except UsageError as error:
        hint = did_you_mean(text, [PRETRAINED])
        raise UsageError(f"There is no kind {text!r}.{hint}" if hint else str(error)) from None


def list(kind: str, pattern: str | None = None) -> PartList:
    """The parts of a kind, all or those whose name matches a pattern: `ganzoo.list("losses", "r*")`.

    Each is a dict of name, id, kind, distribution, version, target and description. The kind may be written in the
    singular. `ganzoo.list("pretrained")` lists trained generators: name, scores with their cards, the command that
    trained each, and more. Raises UsageError for an unknown kind.
    """
    from ganzoo.registry.describe import part_facts
    from ganzoo.registry.zoo import zoo

    if kind == PRETRAINED:
        from ganzoo.results.pretrained import pretrained_facts

        return PretrainedList(pretrained_facts(each) for each in zoo().pretrained() if matches(each.name, pattern))
    return PartList(part_facts(part) for part in zoo().components(kind_named(kind)) if matches(part.name, pattern))


def show(part: Part, *, kind: str | None = None, size: int = 28, channels: int = 1, classes: int = 10) -> Description:
    """One part: its options with types, defaults and bounds, where it comes from, its recipe and its networks.

    The networks of an architecture are built for images of `size` x `size` with these channels and classes. `kind` is
    needed only where two kinds have a part of that name. Raises UsageError where there is no such part.
    """
    from ganzoo.contract.images import ImageSpec
    from ganzoo.registry.describe import describe, find_kind
    from ganzoo.registry.zoo import zoo

    for name, number in (("size", size), ("channels", channels), ("classes", classes)):
        if number < 1:
            raise UsageError(f"--{name} must be at least 1, not {number}.")
    named = kind_named(kind) if kind is not None else ""
    choice = Choice.parse(part)
    return Description(describe(zoo(), named or find_kind(choice), choice, ImageSpec(channels, size, size, classes)))
