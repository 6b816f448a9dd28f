"""Text that is shown in a page: control characters of names, labels and error messages are written out."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

#: control characters but tab and newline, characters that change the direction of what follows, and half characters
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
#: the longest text of one value
_LONGEST = 20_000


def visible(text: str) -> str:
    r"""The text with control characters as escapes, `\u202e`: they cannot reverse, hide or break what stands beside."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + " ..."
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def plain_data(value: Any) -> Any:
    """Any value as JSON can hold it: texts are made `visible`, and a number that is not finite becomes its word.

    Pictures, `data:image/...`, are left as they are. A dataclass becomes a mapping of its fields.
    """
    if isinstance(value, str):
        return value if value.startswith(("data:image/png;base64,", "data:image/webp;base64,")) else visible(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {visible(str(name)): plain_data(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(inner) for inner in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain_data(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value if value is None or isinstance(value, bool | int | float) else visible(str(value))


def short_number(value: float | None) -> str:
    """Four significant digits, or a dash for None."""
    return "-" if value is None else f"{value:.4g}"
