"""Import the checkpoints of other programs as runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ganzoo.api.keywords import Part, dataset_choice
from ganzoo.api.progress import log
from ganzoo.api.trained_run import TrainedRun
from ganzoo.contract.choice import Choice


def import_checkpoint(
    files: str | Path | Sequence[str | Path],
    architecture: Part,
    *,
    out: str | Path | None = None,
    dataset: Part | None = None,
) -> TrainedRun:
    """Make a run from checkpoints of the official program of an architecture, without running anything in them.

    `files` is one file, or those of the generator and of the discriminator. Options and image size follow from the
    shapes of the weights, which are all checked. The run is a new directory `out`, by default
    `runs/ARCHITECTURE-DATASET`. It can be sampled, scored and exported; `ganzoo.resume` begins a training with these
    weights, on `dataset`.

        run = ganzoo.import_checkpoint(["netG_100000_steps.pth", "netD_100000_steps.pth"], "sngan")

    Raises UsageError where a file is none of that program, GanzooError where a file is refused.
    """
    from ganzoo.registry.zoo import zoo
    from ganzoo.storage.run_directory import free_directory
    from ganzoo.training.imported import import_run

    several = [files] if isinstance(files, str | Path) else list(files)
    choice = dataset_choice(dataset) if dataset is not None else None
    place = Path(out) if out is not None else partial(free_directory, parent=Path("runs"))
    run = import_run([Path(file) for file in several], Choice.parse(architecture), zoo(), place, choice, log)
    return TrainedRun(run.path)
