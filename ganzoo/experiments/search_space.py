"""The space that `ganzoo tune` searches: for each field of a recipe a range of numbers, or some choices.

[space]
generator_optimizer.lr = {low = 1e-5, high = 1e-2, log = true}
batch_size = {low = 16, high = 128, step = 16}
loss = ["nonsaturating", "hinge"]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.experiments.axes import ParseDataset, Value, axis_named, parse_value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_KEYS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Dimension:
    """One field that is searched: a range of whole numbers or of floats, or choices."""

    axis: str
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    whole: bool = False
    #: in place of a range, by their texts
    choices: tuple[Value, ...] = ()

    def value(self, found: Any) -> Value:
        """The value of the field for what the search proposed. Floats have four significant digits."""
        if self.choices:
            return next(one for one in self.choices if one.text == found)
        return parse_value(self.axis, int(found) if self.whole else float(f"{found:.4g}"))

    def proposed(self, value: Any) -> Any:
        """What the search would have proposed for the value of a recipe; None if it lies outside of the space."""
        if self.choices:
            return next((one.text for one in self.choices if one.label == value), None)
        inside = isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
        on_grid = not self.step or (inside and abs((value - self.low) / self.step % 1) < 1e-9)
        return value if inside and on_grid else None

    @property
    def example(self) -> Value:
        """Some value of the space."""
        return self.choices[0] if self.choices else self.value(self.low)

    def distribution(self) -> BaseDistribution:
        """The same for optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution([one.text for one in self.choices])
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(float(self.low), float(self.high), log=self.log, step=self.step)


def parse_space(given: Mapping[str, Any], parse_dataset: ParseDataset = Choice.parse) -> list[Dimension]:
    """The dimensions of a table [space]. Raises UsageError for a wrong name or range, and for an empty table."""
    found: dict[str, Dimension] = {}
    for key, what in given.items():
        axis = axis_named(key, "field of the space")
        if axis in ("seed", "architecture", "dataset"):
            raise UsageError(f"[space] cannot search the {axis}: a search has one architecture, dataset and seed.")
        if axis in found:
            raise UsageError(f"[space] has {axis} twice, under two of its names.")
        found[axis] = _dimension(axis, what, parse_dataset)
    if not found:
        raise UsageError(
            "The study has no [space] to search: write below [space] for example "
            "generator_optimizer.lr = {low = 1e-5, high = 1e-2, log = true}."
        )
    return list(found.values())


def _dimension(axis: str, what: Any, parse_dataset: ParseDataset) -> Dimension:
    if isinstance(what, Mapping) and "choices" in what:
        what = what["choices"]
    if isinstance(what, list | tuple):
        values = tuple(parse_value(axis, item, parse_dataset) for item in what)
        texts = [value.text for value in values]
        if len(set(texts)) < max(2, len(texts)):
            raise UsageError(f"[space] {axis} needs at least two different choices, not {', '.join(texts) or 'none'}.")
        return Dimension(axis, choices=values)
    if not isinstance(what, Mapping):
        raise UsageError(f"[space] {axis} is a list of choices or a range {{low = ..., high = ...}}, not {what!r}.")
    for name in what:
        if name not in _KEYS:
            raise UsageError(
                f"[space] {axis} has no key {name!r}.{did_you_mean(name, _KEYS)} It has low, high, log, step."
            )
    low, high, step, log = what.get("low"), what.get("high"), what.get("step"), what.get("log", False)
    numbers = [number for number in (low, high, step) if number is not None]
    if low is None or high is None or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise UsageError(f"[space] {axis} needs a low and a high number: {{low = 1e-5, high = 1e-2, log = true}}.")
    if not low < high:
        raise UsageError(f"[space] {axis}: low ({low}) must be below high ({high}).")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise UsageError(f"[space] {axis}: log is true or false; a logarithmic range begins above 0 and has no step.")
    if step is not None and step <= 0:
        raise UsageError(f"[space] {axis}: step must be above 0, not {step}.")
    whole = all(isinstance(number, int) for number in numbers)
    return Dimension(axis, low, high, log, step, whole)
