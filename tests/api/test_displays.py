"""The display below a notebook's cell."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import IPython.display
import pytest

from ganzoo.api.notebook_display import NotebookProgress
from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.training.heartbeat import Display


def test_a_notebook_shows_how_far_a_long_step_or_a_scoring_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat reaches the display, also between the hooks."""
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))

    def display(data: dict[str, Any], raw: bool, display_id: bool) -> SimpleNamespace:
        shown.append(data["text/plain"])
        return handle

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr("ganzoo.api.notebook_display._NOTEBOOK_INTERVAL", 0.0)
    recipe = SimpleNamespace(length=Amount(8, "steps"), architecture=Choice("dcgan"), dataset=Choice("digits"))
    run: Any = SimpleNamespace(path=Path("runs/a"), recipe=recipe)
    progress = NotebookProgress()
    assert isinstance(progress, Display)
    progress.on_heartbeat(TrainingProgress(0, 0, 0.0))  # before the run: nothing to show
    assert not shown
    progress.on_run_start(run)
    progress.on_heartbeat(TrainingProgress(2, 32, 0.5), "scoring fid-domain")
    assert "step 2 of 8" in shown[-1]
    assert "25%" in shown[-1]
    assert "scoring fid-domain" in shown[-1]
