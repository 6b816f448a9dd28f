"""Floors: what real images score, from the calibration of each dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ganzoo import calibrate
from ganzoo.assembly import find_device
from ganzoo.benchmark.grid import Cell
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.protocol import Protocol
from ganzoo.zoo import Zoo


def measured(zoo: Zoo, cell: Cell, device: str, note: Callable[[str], None]) -> Mapping[str, Mapping[str, Any]]:
    """By score: its floor on the dataset of a cell, and its calibration if that was made; empty where it cannot be."""
    recipe, protocol = cell.recipe, Protocol.named(cell.recipe.protocol)
    asked = zoo, cell.data, recipe.evaluators, find_device(device), protocol, recipe.score_samples or None
    try:
        return {"floor": calibrate.floor(*asked), "calibration": {}}
    except GanzooError as error:
        note(f"No floor of {cell.dataset}: {error}")
        return {"floor": {}, "calibration": {}}
