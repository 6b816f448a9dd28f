"""The public signatures: each one that differs from the last release has a line in the changelog.

`golden/api.txt` holds the signatures of the last release. It is written for a release, and only then:

    python tests/contract/test_api.py
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import pytest

import ganzoo
import ganzoo.testing
from ganzoo.contract.hooks import KINDS, PluginHooks, RunHooks

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "api.txt"
CHANGELOG = ROOT / "CHANGELOG.md"


def public_signatures() -> dict[str, str]:
    """Every public name with its signature."""
    found = {"API_VERSION": str(ganzoo.API_VERSION)}
    for name in ganzoo.__all__:
        found |= _described(name, getattr(ganzoo, name))
    for hooks in (PluginHooks, RunHooks):
        found |= {f"hook {name}": _signature(hook) for name, hook in vars(hooks).items() if inspect.isfunction(hook)}
    found |= {f"group ganzoo.{group}": base for group, base in KINDS.items()}
    for name in ganzoo.testing.__all__:
        found |= _described(f"testing.{name}", getattr(ganzoo.testing, name))
    return found


def _described(name: str, value: Any) -> dict[str, str]:
    if inspect.isclass(value):
        return {name: f"class({', '.join(base.__name__ for base in value.__bases__)})", **dict(_members(name, value))}
    if inspect.isfunction(value):
        return {name: _signature(value)}
    return {name: str(value) if isinstance(value, int | str) or get_origin(value) else type(value).__name__}


def _members(owner: str, value: type) -> Iterator[tuple[str, str]]:
    fields = {field.name: field for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else {}
    for name, field in fields.items():
        yield f"{owner}.{name}", f"{field.type} = {_default(field.default)}"
    for name, annotation in vars(value).get("__annotations__", {}).items():
        if not name.startswith("_") and name not in fields:
            yield f"{owner}.{name}", f"{annotation} = {_default(getattr(value, name, inspect.Parameter.empty))}"
    for name, member in vars(value).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        has_init = not fields and not getattr(value, "_is_protocol", False)  # those of both are generated
        if name == "__init__" and has_init and inspect.isfunction(member):
            yield f"{owner}()", _signature(member)
        elif not name.startswith("_") and isinstance(member, property):
            yield f"{owner}.{name}", "property"
        elif (not name.startswith("_") or name == "__len__") and inspect.isfunction(function):
            abstract = "abstract " if getattr(member, "__isabstractmethod__", False) else ""
            kind = "" if function is member else f"{type(member).__name__} "
            yield f"{owner}.{name}", f"{abstract}{kind}{_signature(function)}"


def _signature(function: Any) -> str:
    """Names, types and defaults, the same in all versions of Python."""
    words = []
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**", parameter.KEYWORD_ONLY: "/"}
        text = star.get(parameter.kind, "").replace("/", "keyword ") + parameter.name
        text += f": {parameter.annotation}" if parameter.annotation is not parameter.empty else ""
        words.append(text + (f" = {_default(parameter.default)}" if parameter.default is not parameter.empty else ""))
    answer = signature.return_annotation
    return f"({', '.join(words)})" + (f" -> {answer}" if answer is not signature.empty else "")


def _default(value: Any) -> str:
    if isinstance(value, ganzoo.Recipe):
        return "Recipe(...)"
    if isinstance(value, frozenset):
        return f"frozenset({sorted(value)})"  # its order differs between processes
    return "none" if value in (inspect.Parameter.empty, dataclasses.MISSING) else repr(value)


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
    """The changed names that a section of the changelog does not have in backticks; a class stands for its members."""
    announced = {word.strip() for quoted in re.findall(r"`([^`]+)`", unreleased) for word in quoted.split(",")}
    announced |= {
        name for name in changed if "." in name and (owner := name.partition(".")[0]) in changed and owner in announced
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
    assert not not_announced({"New": "", "New.part": ""}, "`New`")
    assert not_announced({"Loss.part": ""}, "`Loss`")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Loss.generator", "abstract (self, round: Round) -> Tensor"),
        ("Architecture.conditional", "ClassVar[bool] = False"),
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


if __name__ == "__main__":
    head = f"# public signatures of torch-ganzoo {ganzoo.__version__}, written by tests/contract/test_api.py\n"
    GOLDEN.write_text(head + "".join(f"{name} | {words}\n" for name, words in public_signatures().items()))
