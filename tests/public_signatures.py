"""The signatures of all public names, for tests/contract/test_api.py and tests/project/test_docs.py.

`golden/api.txt` holds the signatures of the last release. It is written for a release, and only then:

    python tests/public_signatures.py
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import ganzoo
import ganzoo.testing
from ganzoo.contract.hooks import KINDS, PluginHooks, RunHooks

GOLDEN = Path(__file__).parent / "golden" / "api.txt"


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


if __name__ == "__main__":
    head = f"# public signatures of torch-ganzoo {ganzoo.__version__}, written by tests/public_signatures.py\n"
    GOLDEN.write_text(head + "".join(f"{name} | {words}\n" for name, words in public_signatures().items()))
