"""docs/python.md: every example runs, and every public function is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documented import follow

import ganzoo

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = follow(ROOT / "docs" / "python.md", tmp_path).names
    assert len(BLOCKS) >= 12
    promised = re.findall(r"print\(error\)  # (.*)", PAGE)
    assert promised[0] in capsys.readouterr().out
    assert names["again"].seed == 1
    assert names["run"].progress.step == 6 + 2 + 2


def test_every_function_is_named() -> None:
    names = {name for home, names in ganzoo._HOMES.items() if home.startswith("api.") for name in names.split()}
    for name in names - {"TrainedRun"}:
        assert f"ganzoo.{name}" in PAGE, name


def test_every_keyword_of_train_is_named() -> None:
    import inspect

    parameters = inspect.signature(ganzoo.train).parameters.values()
    for name in [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]:
        assert f"`{name}`" in PAGE, name
