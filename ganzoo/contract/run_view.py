"""RunView: the attributes of a run that observers may read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ganzoo.contract.recipe import Recipe


class RunView(Protocol):
    """The run that hooks receive as `run`. Observers only read it."""

    @property
    def path(self) -> Path:
        """The run directory."""

    @property
    def recipe(self) -> Recipe:
        """The complete recipe, with the values of all options."""

    @property
    def environment(self) -> dict[str, Any]:
        """The content of environment.json: versions, device, image shape, class names, and the origin of each part."""

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file of the run, `stats.jsonl` or `scores.jsonl`, oldest first."""
