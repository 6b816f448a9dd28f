"""Errors a person can act on: one sentence that says what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GanzooError(Exception):
    """Something failed for a reason the user can read and mend. The command line exits with status 1."""

    exit_code = 1


class UsageError(GanzooError):
    """What was asked for cannot be meant: a misspelt name, a value out of bounds. Exits with status 2."""

    exit_code = 2


class RefusedSpec(UsageError):
    """An architecture cannot serve images of this size or number of channels."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' with near words, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.55)
    return f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
