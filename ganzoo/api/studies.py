"""Studies for `benchmark` and `tune`: from a file, a mapping, keywords, or options of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ganzoo.api.keywords import dataset_choice
from ganzoo.contract.errors import UsageError

if TYPE_CHECKING:
    from ganzoo.experiments.study import Study

#: a study file in TOML, or a mapping with its keys
StudySource: TypeAlias = str | Path | Mapping[str, Any]
#: axes whose values may hold a comma, so that a comma does not separate them on the command line
_WITH_COMMAS = ("architecture", "dataset", "generator_optimizer", "discriminator_optimizer", "loss", "penalty",
                "augmentation", "turns")  # fmt: skip


def is_study(value: Any) -> bool:
    """Whether a value is a study and no part: the path of a TOML file, or a mapping that is no `{name, options}`."""
    if isinstance(value, Mapping):
        return not (set(value) <= {"name", "options"})
    return isinstance(value, Path) or (isinstance(value, str) and value.endswith(".toml"))


def study_of(source: StudySource | None, given: Mapping[str, Any]) -> Study:
    """The study of a file or mapping, with everything replaced that `given` sets, a mapping with the keys of a file.

    None and empty values in `given` set nothing. Raises UsageError for anything that is wrong.
    """
    from ganzoo.experiments.study import Study, parse_study, read_study

    found = Study()
    if isinstance(source, Mapping):
        found = parse_study(source, dataset_choice)
    elif source is not None:
        path = Path(source)
        if not path.is_file():
            raise UsageError(f"There is no study file {path}: name a file in TOML, such as study.toml.")
        found = read_study(path, dataset_choice)
    set_values = {name: value for name, value in given.items() if value is not None and value not in ((), [], {})}
    return found.changed_by(parse_study(set_values, dataset_choice))


def set_or_axis(values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Keys of a study for values by name: one value is the same for all trials, several are an axis."""
    found: dict[str, Any] = {name: given[0] for name, given in values.items() if len(given) == 1}
    return {**found, "axes": {name: list(given) for name, given in values.items() if len(given) > 1}}


def values_by_axis(texts: Iterable[str]) -> dict[str, list[str]]:
    """Values by axis of texts `FIELD=A,B`. A field that is given again gets more values.

    Raises UsageError for another text.
    """
    from ganzoo.experiments.axes import axis_named

    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {text!r} is not written FIELD=VALUE or FIELD=VALUE,VALUE.")
        axis = axis_named(name, "field")
        found.setdefault(axis, []).extend(split_values(axis, values))
        if not values.strip():
            raise UsageError(f"--set {text!r}: the axis {axis} is empty; write FIELD=VALUE,VALUE.")
    return found


def split_values(axis: str, text: str) -> list[str]:
    """The values of an axis in a text, which commas separate: `32,64`. A part may hold commas, so it is one value."""
    if axis in _WITH_COMMAS:
        return [text.strip()]
    return [word.strip() for word in text.split(",") if word.strip()]
