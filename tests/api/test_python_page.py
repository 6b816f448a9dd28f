"""docs/python.md: every example runs, and every public function is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import ganzoo

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # the one example at full size
    blocks = [block.replace('"digits", epochs=2)', '"digits:size=8", steps=2, batch_size=8)') for block in BLOCKS]
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert len(blocks) >= 12
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
