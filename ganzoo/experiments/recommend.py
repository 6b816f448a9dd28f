"""Recommend: the recipe for a dataset and a device, with a length that fits into the time that there is.

What suits which images is declared by the architectures (`Suited`), so that any plugin can take part.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Dataset
from ganzoo.contract.errors import GanzooError, UsageError, counted
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.options import options_of
from ganzoo.contract.recipe import Recipe
from ganzoo.engine import seeds
from ganzoo.experiments.recommend_candidates import IMAGES_OF_A_CLASS, Candidate, candidates_of, no_candidate
from ganzoo.experiments.recommend_measure import GRIDS, Measured, measure
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.training.introduction import REASONS

#: a set with fewer images than this is refused
FEWEST_IMAGES = 20
#: of the suited recipes, so many are measured at most
MOST_MEASURED = 5
#: checkpoints and lines of statistics of a length that is cut to the time
CHECKPOINTS, TICKS = 4, 100
#: of such a length, the EMA's half-life is at most one of so many parts
EMA_SHARE = 10
#: images that are looked at for colours
_LOOKED_AT = 64


@dataclass(frozen=True)
class Recommendation:
    """The recipe that is recommended for a dataset, and why."""

    #: the complete recipe
    recipe: Recipe
    #: number and shape of the training images
    images: int
    spec: ImageSpec
    device: str
    #: sentences
    reasons: list[str]
    measured: Measured
    #: the length, and its estimated time
    steps: int
    seconds: float
    #: sentences about better recipes for which there is too little time
    others: list[str] = field(default_factory=list)


def recommend(
    zoo: Zoo,
    dataset: Choice,
    device: torch.device,
    minutes: float,
    doing: Callable[[str], None] = lambda text: None,
) -> Recommendation:
    """The recipe for a dataset that shows most after so many minutes on this device.

    Candidates are measured from the most merit on, until one of them sees the images it needs in the time; where none
    does, the one that needs the least time is taken. `doing` is called with what is done next.
    Raises UsageError for minutes that are not above 0, a dataset with too few images, and images that no architecture
    serves; GanzooError where the dataset cannot be read.
    """
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes {minutes:g}: name the time that there is for the training, a number above 0.")
    with seeds.aside(0, "recommend"):
        doing("reading the dataset")
        images: Dataset = zoo.build("datasets", dataset, split="train")
        if len(images) < FEWEST_IMAGES:
            raise UsageError(
                f"{dataset} has {counted(len(images), 'training image')}, and a GAN needs at least {FEWEST_IMAGES} to "
                f"learn anything but these; a few hundred are a good beginning."
            )
        grey = _is_grey(images) and "channels" in options_of(zoo.load("datasets", dataset))
        if grey:
            dataset = Choice(dataset.name, {**dataset.options, "channels": 1})
        spec = dataclasses.replace(images.spec, channels=1) if grey else images.spec
        candidates = sorted(candidates_of(zoo, dataset, spec, len(images), device), key=lambda one: -one.merit)
        if not candidates:
            raise UsageError(no_candidate(zoo, dataset, spec, len(images), device))
        measured, slower = _choose(zoo, candidates, len(images), device, 60 * minutes, doing)
    return _recommendation(zoo, measured, slower, len(images), grey, device, minutes)


def _is_grey(images: Dataset) -> bool:
    """Whether images with three channels have no colours: all of those that are looked at."""
    if images.spec.channels != 3:
        return False
    some = torch.linspace(0, len(images) - 1, min(_LOOKED_AT, len(images))).long()
    read, _ = images.read(some)
    return bool((read == read[:, :1]).all())


def _choose(
    zoo: Zoo,
    candidates: list[Candidate],
    images: int,
    device: torch.device,
    seconds: float,
    doing: Callable[[str], None],
) -> tuple[Measured, list[Measured]]:
    """The first candidate that sees the images that it needs in the time, or the fastest; and those that do not."""
    slower: list[Measured] = []
    refused: Exception | None = None
    for candidate in candidates[:MOST_MEASURED]:
        doing(f"a few steps of {candidate.name}")
        try:
            measured = measure(zoo, candidate, images, device)
        except (GanzooError, torch.OutOfMemoryError) as error:
            refused = error
            continue
        if measured.seconds(min(measured.needed_steps, measured.own_steps)) <= seconds:
            return measured, slower
        slower.append(measured)
    if not slower:
        raise GanzooError(f"No suited recipe can be trained here: {refused}")
    fastest = min(slower, key=lambda one: one.seconds(one.needed_steps))
    return fastest, [one for one in slower if one is not fastest]


def _recommendation(
    zoo: Zoo,
    measured: Measured,
    slower: list[Measured],
    images: int,
    grey: bool,
    device: torch.device,
    minutes: float,
) -> Recommendation:
    """The recipe with the length that fits, and the reasons."""
    candidate = measured.candidate
    steps = measured.steps_in(60 * minutes)
    changes = dict(measured.changes)
    if steps < measured.own_steps:
        intervals = {"samples_every": GRIDS, "checkpoint_every": CHECKPOINTS, "tick_every": TICKS}
        changes |= {"length": f"{steps} steps"}
        changes |= {name: f"{max(1, steps // parts)} steps" for name, parts in intervals.items()}
        # an EMA that is slower would show the initial weights until the end
        longest = max(1, steps * measured.images_of_a_step // EMA_SHARE)
        if isinstance(measured.recipe.ema_half_life, int) and measured.recipe.ema_half_life > longest:
            changes["ema_half_life"] = longest
    steps = min(steps, measured.own_steps)
    recipe = plan(zoo, candidate.architecture, candidate.dataset, candidate.suited.recipe or None, changes)
    measured = dataclasses.replace(measured, changes=changes)
    reasons = [*_reasons(measured, images, grey), _length_in_words(measured, steps, minutes)]
    others = [
        f"{_named(one.candidate)} has better images in the end, and would need about "
        f"{_minutes(one.seconds(one.needed_steps))} until they show."
        for one in slower
        if one.candidate.merit > candidate.merit
    ]
    seconds = measured.seconds(steps)
    return Recommendation(recipe, images, candidate.spec, str(device), reasons, measured, steps, seconds, others)


def _reasons(measured: Measured, images: int, grey: bool) -> Iterator[str]:
    """Why this recipe is taken."""
    candidate, spec = measured.candidate, measured.candidate.spec
    yield f"{_named(candidate)}: it {candidate.suited.reason}."
    if candidate.resized is not None:
        own, size = candidate.resized
        yield f"It has no networks for images of {own}, so they are resized to {size}x{size}, the nearest it can serve."
    if grey:
        yield "The pictures have no colours, so they are read as grey ones."
    if spec.classes > 1:
        average = images // spec.classes
        used = "the networks use the classes" if candidate.uses_classes else "the classes are not used"
        few = f", fewer than {IMAGES_OF_A_CLASS}" if average < IMAGES_OF_A_CLASS else ""
        yield f"There are {spec.classes} classes with {average} images on average{few}: {used}."
    for name in measured.changes.keys() & REASONS.keys():
        value = measured.changes[name]
        yield f"{counted(images, 'image is', 'images are')} {REASONS[name]}: {name.replace('_', ' ')} {value}."


def _named(candidate: Candidate) -> str:
    return f"{candidate.name}, recipe {candidate.suited.recipe}" if candidate.suited.recipe else candidate.name


def _length_in_words(measured: Measured, steps: int, minutes: float) -> str:
    seen = f"{counted(steps, 'step')}, {steps * measured.images_of_a_step:,} images seen"
    took = _minutes(measured.seconds(steps))
    if steps >= measured.own_steps:
        return f"The whole recipe takes about {took} here: {seen}."
    enough = steps >= measured.needed_steps
    more = (
        ""
        if enough
        else f" Samples show more than blurs after about {_minutes(measured.seconds(measured.needed_steps))}."
    )
    return f"In {minutes:g} {'minute' if minutes == 1 else 'minutes'} there is time for {seen} (about {took}).{more}"


def _minutes(seconds: float) -> str:
    """A time as `40 seconds`, `12 minutes` or `3.4 hours`."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
