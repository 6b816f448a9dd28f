"""Floors and scales: what real images score on a dataset, as they are and damaged. Each is measured once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ganzoo.contract.protocol import Protocol
from ganzoo.engine.device import find_device
from ganzoo.evaluation.calibrate import calibrate, real_baseline
from ganzoo.evaluation.features import Reals
from ganzoo.experiments.grid import Trial
from ganzoo.registry.source import PLUGIN_ERRORS, error_text
from ganzoo.registry.zoo import Zoo

#: by score: its floor and of how many images, its scale where that was asked for, and the sha256 of the reals of both
RealScores = Mapping[str, Mapping[str, Any]]
NO_REAL_SCORES: RealScores = {"floor": {}, "floor_images": {}, "calibration": {}, "reals": {}}


def measure_real_images(zoo: Zoo, cell: Trial, device: str, scale: bool, note: Callable[[str], None]) -> RealScores:
    """What is known of the scores of a cell on its dataset; nothing where real images cannot be scored."""
    recipe, protocol = cell.recipe, Protocol.named(cell.recipe.protocol)
    asked = zoo, cell.data, recipe.evaluators, find_device(device), protocol
    samples = recipe.score_samples or None
    try:
        reals = Reals(zoo, cell.data, protocol.split).facts["sha256"]
        others = len(zoo.build("datasets", cell.data, split=protocol.other_split))
        floors = real_baseline(*asked, samples)
        fitting = samples if samples and samples <= others else None  # None: as many as there are
        rows = calibrate(*asked, fitting, note=note) if scale else []
    except PLUGIN_ERRORS as error:
        note(f"{cell.dataset} has no floor or no scale: {error_text(error)}")
        return NO_REAL_SCORES
    kept = ("damage", "strength", "value", "images")
    scales: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        scales.setdefault(row["score"], []).append({name: row[name] for name in kept})
    count = min(samples or protocol.samples, others)
    counts, these = dict.fromkeys(floors, count), dict.fromkeys(floors, reals)
    return {"floor": floors, "floor_images": counts, "calibration": scales, "reals": these}
