"""What an observer is given of a run: its directory, its recipe, and what was written there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ganzoo.contract.recipe import Recipe


class RunView(Protocol):
    """A run as observers may use it. Reading is all they are meant to do."""

    @property
    def path(self) -> Path:
        """The run directory."""

    @property
    def recipe(self) -> Recipe:
        """The complete recipe, every option written out."""

    @property
    def environment(self) -> dict[str, Any]:
        """What environment.json holds: versions, device, image shape, class names, and where each part comes from."""

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of stats.jsonl or scores.jsonl, in order."""
