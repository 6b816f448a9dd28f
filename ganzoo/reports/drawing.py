"""Draw with the newest generators of runs: fresh samples, interpolations, classes, and the nearest training images.

Nothing here may cost the report: what cannot be drawn becomes a note of its run, and the time is limited.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from ganzoo.contract.images import resize
from ganzoo.contract.recipe import parse_subset
from ganzoo.engine.sampler import draw_latents
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.reports.model import Report, RunRecord
from ganzoo.reports.sprites import sprite
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo.results.sample import draw_images, draw_interpolations

#: images of a grid of fresh samples, walks and steps of interpolations, images of a class, generated images with
#: neighbours and neighbours of each
_FRESH, _WALKS, _STEPS, _OF_CLASS, _WITH_NEIGHBOURS, _NEIGHBOURS = 16, 4, 8, 8, 5, 5
#: of more classes than this, the first are drawn
_CLASSES = 12
#: training sets with more values than this are not searched for neighbours
_LARGEST_SEARCH = 200_000_000
#: runs that are drawn where nothing is said about it: up to so many
MOST_DRAWN = 36


def draw_all_runs(report: Report, zoo: Zoo, seconds: float, note: Callable[[str], None]) -> None:
    """Add drawings to the runs of a report, the first run of each group first, until the time is over."""
    end = time.monotonic() + seconds
    runs = {run.id: run for run in report.runs}
    members = [[runs[name] for name in group.runs] for group in report.groups]
    longest = max(map(len, members), default=0)
    ordered = [group[place] for place in range(longest) for group in members if place < len(group)]
    training_images: dict[str, Tensor] = {}
    with _offline():
        for count, run in enumerate(ordered):
            if time.monotonic() > end:
                note(
                    f"The time for drawing is over after {count} of {len(ordered)} runs; --draw-seconds gives more, "
                    f"--no-draw draws nothing."
                )
                return
            _draw_run(run, zoo, end, training_images)


def _draw_run(run: RunRecord, zoo: Zoo, end: float, training_images: dict[str, Tensor]) -> None:
    try:
        trained = load_generator(Path(run.path), zoo, torch.device("cpu"), note=lambda text: None)
        run.latents = _latents_digest(trained)
        run.drawings = _generated(trained)
    except Exception as error:  # code of plugins may raise anything, and a report must not fail by it
        run.notes.append(f"Nothing could be drawn: {_sentence(error)}")
        return
    if time.monotonic() < end:
        try:
            found = _neighbours(trained, zoo, training_images)
            if found is not None:
                run.drawings["neighbours"] = sprite([found], _NEIGHBOURS + 1)
        except Exception as error:  # as above
            run.notes.append(f"The nearest training images could not be found: {_sentence(error)}")


def _sentence(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if text.endswith(".") else f"{text}."


def _latents_digest(trained: TrainedGenerator) -> str:
    """A digest of the first latents of the run's sample grids: runs in which it is equal share them."""
    latents = draw_latents(trained.architecture, 16, torch.device("cpu"), trained.run.recipe.seed)
    return hashlib.sha256(latents.numpy().tobytes()).hexdigest()[:16]


def _generated(trained: TrainedGenerator) -> dict[str, Any]:
    drawn: dict[str, Any] = {
        "fresh": sprite([_pixels(draw_images(trained, _FRESH)[0])], 4),
        "interpolation": sprite([_pixels(draw_interpolations(trained, _WALKS, _STEPS)[0])], _STEPS),
    }
    if trained.architecture.conditional and trained.images.classes > 1:
        shown = min(trained.images.classes, _CLASSES)
        images, _ = draw_images(trained, shown * _OF_CLASS, _OF_CLASS, classes=range(shown))
        drawn["classes"] = sprite([_pixels(images)], _OF_CLASS)
        drawn["class_names"] = [str(name) for name in trained.class_names[:shown]]
    return drawn


def _neighbours(trained: TrainedGenerator, zoo: Zoo, cache: dict[str, Tensor]) -> numpy.ndarray | None:
    """Rows of a generated image and the training images nearest to it, by the Euclidean distance of pixels.

    None where the training set is too large to be searched in a moment.
    """
    reals = _training_images(trained, zoo, cache)
    if reals is None:
        return None
    fakes, _ = draw_images(trained, _WITH_NEIGHBOURS, seed=1)
    size = reals.shape[-2:]
    queries = resize(fakes, (int(size[0]), int(size[1]))).float().flatten(1)
    parts = [torch.cdist(queries, part.float().flatten(1)) for part in torch.split(reals, 10_000)]
    nearest = torch.cat(parts, 1).topk(min(_NEIGHBOURS, len(reals)), largest=False).indices
    rows = [torch.cat([fake[None], reals[places]]) for fake, places in zip(fakes, nearest, strict=True)]
    return _pixels(torch.cat(rows))


def _training_images(trained: TrainedGenerator, zoo: Zoo, cache: dict[str, Tensor]) -> Tensor | None:
    """The training images of a run, uint8 (N, C, H, W); kept for the next run with the same ones."""
    recipe = trained.run.recipe
    assert recipe.dataset is not None  # noqa: S101  (a run's recipe is complete)
    key = f"{recipe.dataset}|{recipe.subset}"
    if key not in cache:
        dataset = recorded_zoo(trained.run, zoo).build("datasets", recipe.dataset, split="train")
        places = torch.tensor(parse_subset(recipe.subset, len(dataset)))
        if len(places) * dataset.spec.pixels > _LARGEST_SEARCH:
            return None
        cache.clear()  # one training set at a time is in memory
        cache[key] = torch.cat([dataset.read(part)[0] for part in torch.split(places, 1000)])
    return cache[key]


def _pixels(images: Tensor) -> numpy.ndarray:
    """uint8 images (N, C, H, W) with C 1 or 3 as an array (N, H, W, 3)."""
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    return images.permute(0, 2, 3, 1).contiguous().numpy()


@contextmanager
def _offline() -> Iterator[None]:
    """Forbid downloads: a dataset that is not on this machine must not be fetched for a picture."""
    before = os.environ.get("GANZOO_OFFLINE")
    os.environ["GANZOO_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("GANZOO_OFFLINE")
        else:
            os.environ["GANZOO_OFFLINE"] = before


def should_draw(asked: bool | None, runs: Sequence[RunRecord]) -> bool:
    """Whether runs are drawn: as asked, and where nothing is said, if there are not too many of them."""
    return len(runs) <= MOST_DRAWN if asked is None else asked
