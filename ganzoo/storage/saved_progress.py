"""How far a run is, by its statistics and by what was saved after their last line. Nothing here imports torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.contract.hooks import TrainingProgress
from ganzoo.storage.files import parse_json

#: the most bytes of a header that are read
_HEADER_MOST = 1 << 22


def progress_of(run: Path, last: Mapping[str, Any]) -> TrainingProgress:
    """Steps, images and epochs done by the run in this directory; `last` is the last line of its statistics, or empty.

    A run that is stopped between two lines saves a checkpoint and its generator: they then say how far it is.
    """
    known = TrainingProgress(last.get("step", 0), last.get("images", 0), last.get("epoch", 0.0))
    folder = run / "checkpoints"
    names = [path.name for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    found = [each for name in names if (each := _saved(run, name)) is not None]
    return max([known, *found], key=lambda progress: progress.step)


def _saved(run: Path, name: str) -> TrainingProgress | None:
    """The progress at a checkpoint, from its meta.json and the generator beside it; None where they lack it."""
    generator = generator_progress(run / "generators" / f"{name}.safetensors")
    try:
        meta = parse_json((run / "checkpoints" / name / "meta.json").read_bytes())
        step, images = int(meta["step"]), int(meta["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return TrainingProgress(step, images, generator[1]) if generator and generator[0] == step else None


def generator_progress(path: Path) -> tuple[int, float] | None:
    """(step, epochs) from the header of a generator's file; None where it does not have them.

    Only the header is read; the digest of the file is checked when it is loaded.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _HEADER_MOST:
                return None
            header: dict[str, Any] = dict(parse_json(file.read(length)))
        facts = json.loads(header["__metadata__"]["ganzoo"])
        step, epochs = int(facts["step"]), float(facts["epoch"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (step, epochs) if math.isfinite(epochs) else None
