"""Errors for users. The message is a sentence: what was given, what was expected, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GanzooError(Exception):
    """An error that the user can understand and correct. The command line exits with status 1."""

    exit_code = 1


class UsageError(GanzooError):
    """The user's input is wrong: a misspelt name, a value out of bounds. The command line exits with status 2."""

    exit_code = 2


class RefusedSpec(UsageError):
    """An architecture has no networks for images of this size or number of channels."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun for a message: `1 step`, `2,000 steps`. `plural` is `noun` with an s by default."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def sentence(text: str) -> str:
    """The text with the full stop of a sentence, unless it ends with one, or with `?` or `!`."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' with the most similar of the known words; empty where none is similar."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.55)
    return f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
