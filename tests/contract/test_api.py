"""The public signatures: each one that differs from the last release has a line in the changelog.

`golden/api.txt` holds the signatures of the last release; see tests/public_signatures.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from public_signatures import GOLDEN, public_signatures

import ganzoo

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The change of each name that differs."""
    words = {}
    for name in {**then, **now}:
        if name not in now:
            words[name] = f"was {then[name]} and is gone"
        elif name not in then:
            words[name] = f"is new: {now[name]}"
        elif then[name] != now[name]:
            words[name] = f"was {then[name]} and is {now[name]}"
    return words


def not_announced(changed: Mapping[str, str], unreleased: str) -> list[str]:
    """The changed names that a section of the changelog does not have in backticks; a class stands for its members
    and its constructor."""
    announced = {word.strip() for quoted in re.findall(r"`([^`]+)`", unreleased) for word in quoted.split(",")}
    announced |= {
        name
        for name in changed
        if (owner := name.partition(".")[0].removesuffix("()")) != name and owner in changed and owner in announced
    }
    return [f"{name} {words}" for name, words in changed.items() if name not in announced]


def golden() -> dict[str, str]:
    lines = [line for line in GOLDEN.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(" | ", 1) for line in lines)  # type: ignore[arg-type]


def unreleased_section() -> str:
    (section,) = re.findall(r"^## Unreleased\n(.*?)(?=^## |\Z)", CHANGELOG.read_text(), re.MULTILINE | re.DOTALL)
    return section  # type: ignore[no-any-return]


def test_no_public_signature_changes_without_a_line_in_the_changelog() -> None:
    missing = not_announced(differences(golden(), public_signatures()), unreleased_section())
    assert not missing, "Name these, each in backticks, under Unreleased in CHANGELOG.md:\n" + "\n".join(missing)


def test_a_change_is_noticed_and_its_line_is_enough() -> None:
    then = {"Loss.generator": "(self, round)", "Old": "class(ABC)", "Same": "class(ABC)"}
    now = {"Loss.generator": "(self, round, step)", "New": "class(ABC)", "Same": "class(ABC)"}
    changed = differences(then, now)
    assert set(changed) == {"Loss.generator", "Old", "New"}
    assert len(not_announced(changed, "Loss.generator, Old and New were changed")) == 3
    assert not_announced(changed, "* `Loss.generator` is given the step. `Old` is gone.") == ["New is new: class(ABC)"]
    assert not not_announced(changed, "* `Loss.generator`, `Old, New`")
    assert not not_announced({"New": "", "New.part": "", "New()": ""}, "`New`")
    assert not_announced({"Loss.part": ""}, "`Loss`")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Loss.generator", "abstract (self, round: Round) -> Tensor"),
        ("Architecture.capturable", "ClassVar[bool] = True"),
        ("Amount.parse", "classmethod (cls, value: str | int | Amount, unit: str = '') -> Amount"),
        ("Recipe.batch_size", "int = 64"),
        ("ImageSpec.pixels", "property"),
        ("hook on_run_end", "(self, run: RunView, error: BaseException | None) -> None"),
        (
            "hook on_tick",
            "(self, run: RunView, progress: TrainingProgress, scalars: dict[str, Any], moment: TrainingProgress)"
            " -> None",
        ),
        ("group ganzoo.losses", "Loss"),
        ("resize", "(images: Tensor, size: int | tuple[int, int]) -> Tensor"),
    ],
)
def test_what_a_signature_is(name: str, words: str) -> None:
    assert public_signatures()[name] == words


def test_every_public_name_has_a_signature() -> None:
    names = {name.partition(".")[0] for name in public_signatures()}
    assert set(ganzoo.__all__) <= names
