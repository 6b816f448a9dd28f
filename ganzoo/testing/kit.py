"""The kit: the part that is examined, the outcomes of a check, how a check is run, and helpers that checks share."""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
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

#: image shapes that an architecture is tried with, the cheap ones first; it may refuse some of them
USUAL_IMAGES = (
    ImageSpec(1, 8, 8, 3),
    ImageSpec(1, 16, 16, 3),
    ImageSpec(1, 28, 28, 3),
    ImageSpec(3, 32, 32, 3),
    ImageSpec(1, 32, 32, 1),
    ImageSpec(3, 64, 64, 3),
)


class Failed(AssertionError):
    """A part does not keep the contract. The message is a sentence with the fault."""


class Skipped(Exception):
    """A check cannot be run here. The message is the reason."""


def require(condition: object, message: str) -> None:
    """Raise Failed with this message unless the condition holds."""
    if not condition:
        raise Failed(message)


@dataclasses.dataclass
class ExaminedPart:
    """A component class with options. Every check builds new objects of it."""

    kind: str
    component: type[Any]
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls, part: type[Any] | str | Choice, kind: str = "", options: Mapping[str, Any] | None = None
    ) -> ExaminedPart:
        """From a class, a name (`dcgan:width=8`) or a location (`./my_gan.py:MyGAN`).

        Raises UsageError if there is no such part, or if two kinds have a part of this name and `kind` is empty.
        """
        if isinstance(part, type):
            kind = kind or _kind_of(part)
            try:
                given = resolve(part, options or {}, part.__name__)
            except (TypeError, NameError):
                # the check `options_survive_json` reports what is wrong with the constructor
                given = dict(options or {})
            return cls(kind, part, given)
        choice = Choice.parse(part)
        choice = Choice(choice.name, {**choice.options, **(options or {})})
        kind = kind or find_kind(choice)
        return cls(kind, zoo().load(kind, choice), zoo().options(kind, choice))

    def build(self, **reserved: Any) -> Any:
        """A new object. A dataset is built with the training split unless `split` is given."""
        if self.kind == "datasets":
            reserved = {"split": "train", **reserved}
        return self.component(**{**self.options, **reserved})

    def on_disk(self, **reserved: Any) -> Any:
        """A new object of a part that needs files. Raises Skipped, with the part's message, where they are missing."""
        try:
            return self.build(**reserved)
        except GanzooError as error:
            raise Skipped(str(error)) from error

    @functools.cached_property
    def spec(self) -> ImageSpec:
        """The first of the usual image shapes that an architecture accepts."""
        for images in USUAL_IMAGES:
            try:
                self.networks(images=images)
            except RefusedSpec:
                continue
            return images
        raise Failed(f"It refuses all of {', '.join(map(str, USUAL_IMAGES))}.")

    def networks(self, seed: int = 0, images: ImageSpec | None = None) -> tuple[Any, Any]:
        """(generator, discriminator) of an architecture, built with all random state set by `seed`."""
        images = images or self.spec
        seeds.reseed(seed, "networks")
        generator, discriminator = self.build().networks(images)
        return generator, discriminator

    def latents(self, count: int, seed: int = 0) -> Tensor:
        """(count, Z) latents of an architecture, drawn with this seed."""
        latents: Tensor = self.build().latents(count, torch.Generator().manual_seed(seed))
        return latents


Check = Callable[[ExaminedPart], str | None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of one check. `reason`: why it failed or was skipped, or what a check with state `ok` did not test."""

    check: str
    state: Literal["ok", "failed", "skipped"]
    reason: str
    seconds: float


def examine(part: ExaminedPart, check: Check) -> Outcome:
    """Run one check and return its outcome. The state of the process is restored afterwards."""
    started = time.perf_counter()
    state: Literal["ok", "failed", "skipped"] = "ok"
    try:
        reason = run_check(part, check) or ""
    except Skipped as skipped:
        state, reason = "skipped", str(skipped)
    except (Failed, GanzooError) as failed:
        state, reason = "failed", str(failed)
    except (Exception, SystemExit) as error:
        state, reason = "failed", error_with_line(error, file_of(part.component))
    return Outcome(check.__name__, state, reason, time.perf_counter() - started)


def run_check(part: ExaminedPart, check: Check) -> str | None:
    """What `check` returns, run offline; the state of the process is restored afterwards.

    Warnings that torch issues in its own modules are ignored: many test suites turn warnings into errors, and these
    would fail a check although the part is correct.
    """
    with isolated(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        return check(part)


def _kind_of(component: type[Any]) -> str:
    if kind := kind_of_class(component):
        return kind
    raise UsageError(f"{component.__name__} is no part: it is derived from none of {', '.join(KINDS.values())}.")


def call(network: Any, values: Tensor, labels: Tensor, *, training: bool = False, seed: int = 0) -> Tensor:
    """The output of a network for copies of these inputs, without gradients, with all random state set by `seed`."""
    network.train(training)
    seeds.reseed(seed, "call")
    with torch.no_grad():
        output: Tensor = network(values.clone(), labels.clone())
    return output


def labels_for(images: ImageSpec, count: int) -> Tensor:
    """(count,) int64 labels: 0, 1, ..., classes - 1, and again from 0."""
    return torch.arange(count) % images.classes


def reals_for(architecture: Architecture | type[Architecture], images: ImageSpec, count: int, seed: int = 0) -> Tensor:
    """(count, C, H, W) images of uniform noise over an architecture's value range."""
    low, high = architecture.value_range
    shape = (count, images.channels, images.height, images.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def state_of(network: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers of a module."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def sentence(error: BaseException) -> str:
    """The message of an error for the user. Raises Failed where it has fewer than four words."""
    message = str(error).strip()
    problem = f"The error says only {message!r}: say what was given, what is expected and what to do."
    require(len(message.split()) >= 4, problem)
    return message
