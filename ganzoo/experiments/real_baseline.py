"""The real baseline of a dataset: the scores of real images, as they are and corrupted.

The table calls it `floor`: a generator is not expected to score better than real images.
"""

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

#: each by the name of a score: the real baseline, its number of images, the scores of corrupted images if requested,
#: and the sha256 of the reals that all of them were measured against
RealScores = Mapping[str, Mapping[str, Any]]
NO_REAL_SCORES: RealScores = {"floor": {}, "floor_images": {}, "calibration": {}, "reals": {}}


def measure_real_images(zoo: Zoo, trial: Trial, device: str, scale: bool, note: Callable[[str], None]) -> RealScores:
    """Score real images of the other split of a trial's dataset; with `scale` also corrupted ones.

    Returns NO_REAL_SCORES, with a message to `note`, if real images cannot be scored.
    """
    recipe, protocol = trial.recipe, Protocol.named(trial.recipe.protocol)
    arguments = zoo, trial.data, recipe.evaluators, find_device(device), protocol
    samples = recipe.score_samples or None
    try:
        reals = Reals(zoo, trial.data, protocol.split).facts["sha256"]
        others = len(zoo.build("datasets", trial.data, split=protocol.other_split))
        floors = real_baseline(*arguments, samples)
        allowed_samples = samples if samples and samples <= others else None  # None: as many as there are
        rows = calibrate(*arguments, allowed_samples, note=note) if scale else []
    except PLUGIN_ERRORS as error:
        note(f"{trial.dataset} has no real baseline or no scale: {error_text(error)}")
        return NO_REAL_SCORES
    columns = ("damage", "strength", "value", "images")
    scales: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        scales.setdefault(row["score"], []).append({name: row[name] for name in columns})
    count = min(samples or protocol.samples, others)
    return {
        "floor": floors,
        "floor_images": dict.fromkeys(floors, count),
        "calibration": scales,
        "reals": dict.fromkeys(floors, reals),
    }
