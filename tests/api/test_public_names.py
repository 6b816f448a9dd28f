"""The names of `ganzoo`: found without torch, the same for people, for programs and for type checkers."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from helpers import ganzoo as command

import ganzoo

PACKAGE = Path(ganzoo.__file__).parent
NAMES = {name: home for home, names in ganzoo._HOMES.items() for name in names.split()}


def test_the_stub_has_the_names_of_the_table() -> None:
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    stub = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert stub == {name: f"ganzoo.{home}:{name}" for name, home in NAMES.items()}
    assert (PACKAGE / "py.typed").exists()


def test_every_name_is_there_and_documented() -> None:
    assert set(dir(ganzoo)) == {*NAMES, "__version__"}
    # a star import must not replace the builtin
    assert set(ganzoo.__all__) == set(NAMES) - {"list"}
    for name, home in NAMES.items():
        value = getattr(ganzoo, name)
        assert value is getattr(import_module(f"ganzoo.{home}"), name)
        if home.startswith("api."):
            assert inspect.getdoc(value), name
    assert ganzoo.__version__
    with pytest.raises(AttributeError, match="Did you mean 'train'"):
        ganzoo.trian  # noqa: B018


def test_keywords_are_in_the_signature() -> None:
    signature = inspect.signature(ganzoo.train)
    assert {"epochs", "loss", "device", "quiet"} <= set(signature.parameters)
    assert signature.parameters["device"].default == "auto"
    assert signature.parameters["quiet"].default is False
    assert signature.parameters["loss"].annotation == "Parts | None"
    assert not [one for one in signature.parameters.values() if one.kind is one.VAR_KEYWORD]


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, ganzoo\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'PIL', 'IPython'}\n"
        "dir(ganzoo); ganzoo.train; ganzoo.load; ganzoo.benchmark; ganzoo.show; ganzoo.Recipe; ganzoo.TrainedRun\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert ganzoo.list('architectures')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_list_and_show_are_those_of_the_command_line() -> None:
    for kind, pattern in (("architectures", None), ("losses", "r*")):
        printed = command("list", kind, *([pattern] if pattern else []), "--json")
        assert printed.exit_code == 0, printed.output
        assert ganzoo.list(kind, pattern) == json.loads(printed.stdout)["parts"]
    facts = ganzoo.show("dcgan-tutorial", size=32)
    printed = command("show", "dcgan-tutorial", "--size", 32, "--json")
    assert printed.exit_code == 0, printed.output
    # JSON has lists in place of tuples
    assert {"schema": 1, "command": "show", **json.loads(json.dumps(facts))} == json.loads(printed.stdout)
    assert "width" in facts._repr_html_()
    assert ganzoo.show("adam", kind="optimizers") == ganzoo.show("adam", kind="optimizer")
    assert ganzoo.show("adam", kind="optimizer")["kind"] == "optimizers"
    assert ganzoo.list("loss", "r*") == ganzoo.list("losses", "r*")
    for call, words in (
        (lambda: ganzoo.list("architectur"), "Did you mean 'architectures'"),
        (lambda: ganzoo.show("dcgan-tutorail"), "Did you mean 'dcgan-tutorial'"),
        (lambda: ganzoo.show("adam", kind="optimiser"), "Did you mean 'optimizers'"),
        (lambda: ganzoo.show("dcgan-tutorial", size=0), "--size must be at least 1"),
    ):
        with pytest.raises(ganzoo.UsageError, match=words):
            call()
