"""Texts of users and plugins are only text: rich reads none of them as markup."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ganzoo

from ganzoo.api.displays import ConsoleProgress
from ganzoo.api.terminal import console, table
from ganzoo.cli.grid_console import GridConsole
from ganzoo.registry import zoo as registry

HOSTILE = ["[/255]", "[low, high]", "[/b]", "[red]x[/red]", ":key:", "[link=x]y", "\\[x]", "[@click=a]b"]

ARCHITECTURE = '''
import click
import ganzoo

class Odd(ganzoo.Loss):
    """Pixels [/255] in [low, high] are :key: and [/b]."""

    def __init__(self, *, weight: ganzoo.Annotated[float, "a number in [low, high], [/255]"] = 1.0) -> None:
        super().__init__()

    def discriminator(self, round): return 0
    def generator(self, round): return 0
'''


@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_is_drawn_as_it_is(text: str) -> None:
    out = io.StringIO()
    screen = console(file=out, width=80)
    screen.print(table([text], [[text]], text))
    screen.print(text)
    assert out.getvalue().count(text) == 4


def test_control_characters_are_written_out() -> None:
    out = io.StringIO()
    console(file=out, width=80).print(table(["a"], [["\x1b[2Jgone\r\x07"]]))
    assert "\\x1b[2Jgone\\x0d\\x07" in out.getvalue()


@pytest.fixture
def odd_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    info = tmp_path / "odd_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ganzoo.losses]\nodd = odd_plugin:Odd\n")
    text = ARCHITECTURE.replace("ganzoo.Annotated", "Annotated").replace("import click", "from typing import Annotated")
    (tmp_path / "odd_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    registry.zoo.cache_clear()
    yield
    registry.zoo.cache_clear()
    sys.modules.pop("odd_plugin", None)


@pytest.mark.usefixtures("odd_plugin")
def test_docstrings_and_help_of_a_plugin() -> None:
    listed = ganzoo("list", "losses")
    assert listed.exit_code == 0, listed.output
    assert "Pixels [/255] in [low, high] are :key: and [/b]." in listed.output
    shown = ganzoo("show", "odd")
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("[low, high]") == 2
    assert "[/255]" in shown.output


@pytest.mark.parametrize("text", HOSTILE)
def test_live_progress(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(err, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", err)
    for shown in (ConsoleProgress(verbose=True), GridConsole([], Path("grid"))):
        if isinstance(shown, GridConsole):
            shown.__enter__()
            shown.message(f"runs/{text}")
            shown.__exit__()
        else:
            shown.open()
            shown.show(f"runs/{text}")
            shown.close()
    assert err.getvalue().count(f"runs/{text}") == 2


def test_a_run_directory_with_markup_in_its_name(tmp_path: Path) -> None:
    from terminal import ganzoo_in_terminal

    out = tmp_path / "runs" / "[/b]"
    given = ("dcgan-tutorial", "digits:size=32", "-o", "width=4", "--steps", "2", "--samples-every", "1 steps")
    status, text = ganzoo_in_terminal("train", *given, "--batch-size", 8, "--out", out, "-v", columns=200)
    assert status == 0, text
    assert f"samples {out}" in text
    assert "Warning" not in text  # among others: that the display changed Python's random state


def test_drawing_does_not_touch_the_random_state() -> None:
    code = "import random; state = random.getstate(); from ganzoo.api.terminal import console; console(); "
    code += "assert 'rich.style' in __import__('sys').modules; assert random.getstate() == state"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    assert random.getstate()
