"""The options of `ganzoo train` that set the fields of a recipe, for commands that are printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: field -> its option, where that is not `--field-name`
_OPTIONS = {
    "losses": "--loss",
    "augmentations": "--augmentation",
    "observers": "--observer",
    "evaluators": "--evaluator",
    "score_samples": "--samples",
}
#: fields without an option: only a recipe file sets them
ONLY_IN_FILES = ("generator_mode_for_discriminator", "reuse_fakes")


def option_words(field: str, value: Any, text: Callable[[Any], str] = str) -> list[str]:
    """The words of a command line that set a field; several parts are an option each. `text` writes one value."""
    option = _OPTIONS.get(field, f"--{field.replace('_', '-')}")
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    values = value if isinstance(value, tuple) else (value,)
    return [word for each in values for word in (option, "shared" if each is None else text(each))]
