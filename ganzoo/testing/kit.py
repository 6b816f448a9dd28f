"""The kit: the part that is examined, what a check may say of it, and how one check is run."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Architecture, kind_of_class
from ganzoo.contract.errors import GanzooError, RefusedSpec, UsageError
from ganzoo.contract.hooks import KINDS
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.options import resolve
from ganzoo.engine import seeds
from ganzoo.registry.describe import find_kind
from ganzoo.registry.source import error_with_line, file_of
from ganzoo.registry.zoo import zoo
from ganzoo.testing.process import isolated

#: image sizes an architecture is tried at, the cheap ones first; it may refuse some
USUAL = (
    ImageSpec(1, 8, 8, 3),
    ImageSpec(1, 16, 16, 3),
    ImageSpec(1, 28, 28, 3),
    ImageSpec(3, 32, 32, 3),
    ImageSpec(1, 32, 32, 1),
    ImageSpec(3, 64, 64, 3),
)


class Failed(AssertionError):
    """A part does not keep to the contract; the message says where, in a sentence."""


class Skipped(Exception):
    """A check that cannot be made here; the message says why."""


def require(kept: object, words: str) -> None:
    """Raise Failed with these words where something is not kept."""
    if not kept:
        raise Failed(words)


@dataclasses.dataclass
class ExaminedPart:
    """A component class with options, of which every check makes objects of its own."""

    kind: str
    component: type[Any]
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls, part: type[Any] | str | Choice, kind: str = "", options: Mapping[str, Any] | None = None
    ) -> ExaminedPart:
        """From a class, a name (`dcgan:width=8`) or a location (`./my_gan.py:MyGAN`).

        Raises UsageError where there is no such part, or the name is used by two kinds and `kind` does not say which.
        """
        if isinstance(part, type):
            kinds = [kind] if kind else [_kind_of(part)]
            try:
                given = resolve(part, options or {}, part.__name__)
            except (TypeError, NameError):
                given = dict(options or {})  # a check says what is wrong with the constructor
            return cls(kinds[0], part, given)
        choice = Choice.parse(part)
        choice = Choice(choice.name, {**choice.options, **(options or {})})
        kind = kind or find_kind(choice)
        return cls(kind, zoo().load(kind, choice), zoo().options(kind, choice))

    def build(self, **reserved: Any) -> Any:
        """A new object. A dataset is of the training split unless `split` says otherwise."""
        if self.kind == "datasets":
            reserved = {"split": "train", **reserved}
        return self.component(**{**self.options, **reserved})

    def on_disk(self, **reserved: Any) -> Any:
        """A new object of a part that needs files. Raises Skipped, in the part's own words, where they are not here."""
        try:
            return self.build(**reserved)
        except GanzooError as error:
            raise Skipped(str(error)) from error

    @functools.cached_property
    def spec(self) -> ImageSpec:
        """The first of the usual images that an architecture serves."""
        for images in USUAL:
            try:
                self.networks(images=images)
            except RefusedSpec:
                continue
            return images
        raise Failed(f"It refuses all of {', '.join(map(str, USUAL))}.")

    def networks(self, seed: int = 0, images: ImageSpec | None = None) -> tuple[Any, Any]:
        """(generator, discriminator) of an architecture, all random state set by `seed`."""
        images = images or self.spec
        seeds.reseed(seed, "networks")
        generator, discriminator = self.build().networks(images)
        return generator, discriminator

    def latents(self, count: int, seed: int = 0) -> Tensor:
        """(count, Z) latents of an architecture."""
        drawn: Tensor = self.build().latents(count, torch.Generator().manual_seed(seed))
        return drawn


Check = Callable[[ExaminedPart], str | None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one check; `reason` says why it failed or was skipped, or what was left out."""

    check: str
    state: Literal["ok", "failed", "skipped"]
    reason: str
    seconds: float


def examine(part: ExaminedPart, check: Check) -> Outcome:
    """Run one check, with the process put back afterwards."""
    started = time.perf_counter()
    state: Literal["ok", "failed", "skipped"] = "ok"
    try:
        with isolated():
            reason = check(part) or ""
    except Skipped as skipped:
        state, reason = "skipped", str(skipped)
    except (Failed, GanzooError) as failed:
        state, reason = "failed", str(failed)
    except (Exception, SystemExit) as error:
        state, reason = "failed", error_with_line(error, file_of(part.component))
    return Outcome(check.__name__, state, reason, time.perf_counter() - started)


def _kind_of(component: type[Any]) -> str:
    if kind := kind_of_class(component):
        return kind
    raise UsageError(f"{component.__name__} is no part: it is derived from none of {', '.join(KINDS.values())}.")


def call(network: Any, values: Tensor, labels: Tensor, *, training: bool = False, seed: int = 0) -> Tensor:
    """What a network answers, without gradients, on copies of its inputs, all random state set by `seed`."""
    network.train(training)
    seeds.reseed(seed, "call")
    with torch.no_grad():
        answer: Tensor = network(values.clone(), labels.clone())
    return answer


def labels_for(images: ImageSpec, count: int) -> Tensor:
    """(count,) int64: every class in turn."""
    return torch.arange(count) % images.classes


def reals_for(architecture: Architecture | type[Architecture], images: ImageSpec, count: int, seed: int = 0) -> Tensor:
    """(count, C, H, W) random images that fill an architecture's value range."""
    low, high = architecture.value_range
    shape = (count, images.channels, images.height, images.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def state_of(network: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of all tensors of a module."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def sentence(error: BaseException) -> str:
    """The words of an error a person is to act on. Raises Failed where they are none."""
    words = str(error).strip()
    require(len(words.split()) >= 4, f"The error says only {words!r}: say what was given, expected and what to do.")
    return words
