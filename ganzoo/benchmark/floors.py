"""Floors: what real images score, from the calibration of each dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ganzoo.assembly import find_device
from ganzoo.benchmark.grid import Cell
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.protocol import Protocol
from ganzoo.scoring import Scorer
from ganzoo.zoo import Zoo


def measured(zoo: Zoo, cell: Cell, device: str, note: Callable[[str], None]) -> Mapping[str, Mapping[str, Any]]:
    """By score: its floor on the dataset of a cell, and its calibration if that was made; empty where it cannot be."""
    recipe = cell.recipe
    try:
        protocol = Protocol.named(recipe.protocol)
        scorer = Scorer(zoo, cell.data, recipe.evaluators, find_device(device), protocol, recipe.score_samples or None)
        other = zoo.build("datasets", cell.data, split="test" if protocol.split == "train" else "train")
        count = min(len(other), scorer.samples)
        images = (other.read(torch.arange(start, min(start + 500, count))) for start in range(0, count, 500))
        lines = scorer.score(images, {})
    except GanzooError as error:
        note(f"No floor of {cell.dataset}: {error}")
        return {"floor": {}, "calibration": {}}
    return {"floor": {line["score"]: line["value"] for line in lines}, "calibration": {}}
