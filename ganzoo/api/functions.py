"""The methods of `TrainedRun` as functions of a path, or of a run that is an object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.api.display import ImageGrid, Scores
from ganzoo.api.keywords import Parts, ResumeOptions, check_keywords, folders, keywords_of
from ganzoo.api.scoring import score
from ganzoo.api.trained_run import TrainedRun

if TYPE_CHECKING:
    from typing import Unpack


def load(path: str | Path, *, device: str = "auto", data_dir: str | Path | None = None) -> TrainedRun:
    """The run in the directory `path`. Raises UsageError where there is none, GanzooError where it is damaged.

    `path` may also be an export, or a trained generator that a plugin ships: "pretrained:cgan/digits".
    `device` and `data_dir` are used when images are drawn, scores computed or the training continued.
    """
    run = TrainedRun(path, device, data_dir)
    run._run()  # raises where there is no run
    return run


@keywords_of(ResumeOptions)
def resume(run: str | Path | TrainedRun, **keywords: Unpack[ResumeOptions]) -> TrainedRun:
    """Continue a run from its newest checkpoint, see `TrainedRun.resume`."""
    check_keywords(resume, keywords)
    return _opened(run).resume(**keywords)


def evaluate(run: str | Path | TrainedRun | Any, *evaluators: Parts, device: str = "auto", **keywords: Any) -> Scores:
    """Score the generator of a run, see `TrainedRun.evaluate`; or other images. "auto" is the device of a TrainedRun.

    `run` may also be a `.npy` or `.npz` file of uint8 images, a folder of pictures, or an array or tensor of uint8
    images (N, C, H, W), (N, H, W, C) or (N, H, W). The keyword `against` then names what to compare with.

        ganzoo.evaluate("fakes.npy", "fid-domain", against="mnist")
    """
    check_keywords(TrainedRun.evaluate, keywords)
    if isinstance(run, TrainedRun):
        return _opened(run, device).evaluate(*evaluators, **keywords)
    from ganzoo.results.image_arrays import images_of

    source = Path(run) if isinstance(run, str | Path) else images_of(run)
    with folders(keywords.pop("data_dir", None), keywords.pop("inception_weights", None)):
        return score(source, device, evaluators, **keywords)


def export(run: str | Path | TrainedRun, out: str | Path | None = None, **keywords: Any) -> Path:
    """Write the generator of a run to a new folder with a card, see `TrainedRun.export`."""
    check_keywords(TrainedRun.export, keywords)
    return _opened(run).export(out, **keywords)


def sample(
    run: str | Path | TrainedRun, count: int | None = None, *, device: str = "auto", **keywords: Any
) -> ImageGrid:
    """New images of the generator of a run, see `TrainedRun.sample`. "auto" is the device of a TrainedRun."""
    check_keywords(TrainedRun.sample, keywords)
    return _opened(run, device).sample(count, **keywords)


def _opened(run: str | Path | TrainedRun, device: str = "auto") -> TrainedRun:
    if not isinstance(run, TrainedRun):
        return load(run, device=device)
    return run if device == "auto" else TrainedRun(run.path, device, run._data_dir)
