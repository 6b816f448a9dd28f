"""Audit events of the interpreter, such as the opening of a file, during a block of a test."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

_record: Callable[[str, tuple[Any, ...]], None] | None = None


def _on_audit_event(event: str, arguments: tuple[Any, ...]) -> None:
    if _record is not None:
        _record(event, arguments)


sys.addaudithook(_on_audit_event)  # an audit hook cannot be removed: outside of `audited` it does nothing


@contextlib.contextmanager
def audited(record: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    """Context manager: `record` is called with the name and the arguments of every audit event in it."""
    global _record
    _record = record
    try:
        yield
    finally:
        _record = None
