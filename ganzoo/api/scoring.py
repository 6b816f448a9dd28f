"""Scores of runs and of other images, with the arguments of the Python API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.api.display import Scores
from ganzoo.api.keywords import Part, Parts, dataset_choice, parts
from ganzoo.api.progress import log
from ganzoo.contract.choice import Choice

if TYPE_CHECKING:
    from ganzoo.results.image_arrays import ImageArray


def against_choice(value: Part | Path) -> Choice | Path:
    """What images are compared with: a path, or a dataset. A text may be the path of a folder or array."""
    if isinstance(value, Path):
        return value
    if isinstance(value, str) and value.endswith((".npy", ".npz")) and ":" not in value:
        return Path(value)
    return dataset_choice(value)


def score(
    source: Path | ImageArray,
    device: str,
    evaluators: Sequence[Parts],
    *,
    accept_changed_code: bool = False,
    accept_changed_images: bool = False,
    against: Part | Path | None = None,
    save_fakes: str | Path | None = None,
    **options: Any,
) -> Scores:
    """The scores of a run or of images. The keywords are those of `TrainedRun.evaluate`."""
    from ganzoo.engine.device import find_device
    from ganzoo.registry.zoo import zoo
    from ganzoo.results.evaluate import evaluate

    return Scores(
        evaluate(
            source,
            zoo(),
            find_device(device),
            [choice for one in evaluators for choice in parts(one)],
            changed_code=accept_changed_code,
            changed_images=accept_changed_images,
            note=log,
            against=None if against is None else against_choice(against),
            save_fakes=None if save_fakes is None else Path(save_fakes),
            **options,
        )
    )
