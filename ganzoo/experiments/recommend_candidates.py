"""The recipes that suit a dataset and a device: what architectures declare (`Suited`), compared by the rules below."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError, RefusedSpec
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.options import options_of
from ganzoo.contract.suited import Suited
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo

#: classes are used where they have this number of images on average
IMAGES_OF_A_CLASS = 50
#: what is added to the merit of a recipe that uses the classes, where that is of use, and of one that needs another
#: size of the images
CLASSES_USED, OTHER_SIZE = 0.5, -0.5


@dataclass(frozen=True)
class Candidate:
    """A recipe that suits the images, before it is measured."""

    name: str
    suited: Suited
    #: with the options that the variant does not have
    architecture: Choice
    #: with the size that the architecture can serve
    dataset: Choice
    spec: ImageSpec
    uses_classes: bool
    #: the other size, as (its own, the nearest that is served); None where the images are taken as they are
    resized: tuple[str, int] | None

    @property
    def merit(self) -> float:
        """The declared merit, with what the rules add."""
        return self.suited.merit + CLASSES_USED * self.uses_classes + OTHER_SIZE * (self.resized is not None)


def candidates_of(zoo: Zoo, dataset: Choice, spec: ImageSpec, count: int, device: torch.device) -> list[Candidate]:
    """What suits the images and the device: in the size that the images have, or else in the nearest one."""
    found = [
        (name, suited)
        for name, suited in _declared(zoo)
        if suited.device in ("", device.type) and _holds(suited, count)
    ]
    side = min(spec.height, spec.width)
    distances = [_distance(suited, side) for _, suited in found]
    for nearest in sorted(set(distances)):
        near = [one for one, distance in zip(found, distances, strict=True) if distance == nearest]
        made = [_candidate(zoo, name, suited, dataset, spec, count) for name, suited in near]
        if candidates := [candidate for candidate in made if candidate is not None]:
            return candidates
    return []


def _declared(zoo: Zoo) -> Iterator[tuple[str, Suited]]:
    """The recipes that architectures declare for `recommend`. A part that cannot be loaded is left out."""
    names = [component.name for component in zoo.components("architectures")]
    for component in zoo.components("architectures"):
        name = component.name if names.count(component.name) == 1 else component.id
        try:
            loaded: type[Architecture] = zoo.load("architectures", Choice(name))
        except GanzooError:
            continue
        yield from ((name, suited) for suited in loaded.suited)


def _holds(suited: Suited, count: int) -> bool:
    return suited.images[0] <= count <= suited.images[1]


def _distance(suited: Suited, side: int) -> float:
    """0 within the sides; outside of them, the factor to the nearest one in powers of 2."""
    low, high = suited.sides
    return abs(math.log2(min(max(side, low), high) / side))


def _candidate(zoo: Zoo, name: str, suited: Suited, dataset: Choice, spec: ImageSpec, count: int) -> Candidate | None:
    """The candidate of a declaration; None where the architecture cannot serve the images in any size."""
    useful = spec.classes > 1 and count >= IMAGES_OF_A_CLASS * spec.classes
    uses_classes = useful and bool(suited.with_classes)
    architecture = Choice(name, {**suited.options, **(suited.with_classes if uses_classes else {})})
    complete = plan(zoo, architecture, dataset, suited.recipe or None).architecture
    assert complete is not None  # noqa: S101  (plan makes it complete)
    built: Architecture = zoo.build("architectures", complete)
    if built.conditional and not useful:
        return None
    uses_classes = built.conditional
    if _serves(built, spec):
        return Candidate(name, suited, architecture, dataset, spec, uses_classes, None)
    if "size" not in options_of(zoo.load("datasets", dataset)):
        return None
    side = min(spec.height, spec.width)
    low, high = suited.sides
    for size in sorted(range(low, high + 1), key=lambda one: abs(one - side)):
        other = dataclasses.replace(spec, height=size, width=size)
        if (size % 4 == 0 or size == low) and _serves(built, other):
            resized = Choice(dataset.name, {**dataset.options, "size": size})
            own = f"{spec.height}x{spec.width}"
            return Candidate(name, suited, architecture, resized, other, uses_classes, (own, size))
    return None


def _serves(architecture: Architecture, spec: ImageSpec) -> bool:
    """Whether an architecture has networks for such images."""
    try:
        architecture.networks(spec)
    except RefusedSpec:
        return False
    return True


def no_candidate(zoo: Zoo, dataset: Choice, spec: ImageSpec, count: int, device: torch.device) -> str:
    """Why nothing is recommended."""
    sides = [suited.sides for _, suited in _declared(zoo) if suited.device in ("", device.type)]
    if not sides:
        return f"No architecture says for which images it is made on this device ({device.type}): choose one yourself."
    low, high = min(side[0] for side in sides), max(side[1] for side in sides)
    return (
        f"No architecture serves {count:,} images of {spec} on this device: give the dataset {dataset} a size from "
        f"{low} to {high} pixels, or convert it to another dataset that has the option size (`ganzoo data convert`)."
    )
