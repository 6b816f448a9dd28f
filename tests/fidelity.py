"""Every recording of an official program, and how far we are from it: the numbers of docs/fidelity.md.

`make fidelity` writes them into the page, and tests/plugins/test_fidelity.py holds each of them below its bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import official_augmentations
import official_parts
import official_programs
import official_r3gan
import official_stylegan2
import torch
from official_numbers import floor, read_manifest

#: name of a recorded value -> its error
Errors = dict[str, float]


@dataclass(frozen=True)
class Fixture:
    """Numbers of an official program, with the function that measures our errors, by the name of the recorded value."""

    member: str
    recording: str
    measure: Callable[[torch.dtype], Errors]
    #: whether it is measured in float32 as well
    single: bool = True

    def __str__(self) -> str:
        return f"{self.member}: {self.recording}"

    def bound(self, name: str, dtype: torch.dtype) -> float:
        """The largest error that a value may have."""
        path = self.recording.partition(",")[0]
        return floor(read_manifest(path), name, dtype)


def _augmentations() -> list[Fixture]:
    found = []
    for member, recording, cases, errors in (
        ("ada", "ada/pipe", official_augmentations.ADA_CASES, official_augmentations.ada_errors),
        (
            "diffaugment",
            "diffaugment/policies",
            official_augmentations.DIFFAUGMENT_CASES,
            official_augmentations.diffaugment_errors,
        ),
    ):
        for which in dict.fromkeys(name.partition("/")[0] for name in cases):
            measure: Any = partial(official_augmentations.measured, errors, cases, which)
            found.append(Fixture(member, f"{recording}, {which.replace(',', ' + ')}", measure))
    return found


#: fixture of a published program -> our member, with the options that make it that program's
_PROGRAMS = {
    "dcgan/pytorch-examples-64": "dcgan-pytorch",
    "sngan/mimicry-sngan-32": "sngan:program=mimicry",
    "sngan/pfnet-32": "sngan",
    "sngan-projection/mimicry-cgan-pd-32": "sngan-projection:program=mimicry",
    "sngan-projection/pfnet-32": "sngan-projection",
    "wgan-gp/mimicry-wgan-gp-32": "wgan-gp:program=mimicry",
    "biggan/cifar-32": "biggan",
    "biggan/imagenet-options-32": "biggan --recipe imagenet-128",
}

FIXTURES = [
    *(Fixture("r3gan", name, partial(official_r3gan.measured, name)) for name in official_r3gan.NAMES),
    *(
        Fixture(f"stylegan2{recipe}", f"stylegan2/{name}", partial(official_stylegan2.measured, name))
        for name, recipe in zip(official_stylegan2.NAMES, ("", " --recipe cifar10"), strict=True)
    ),
    *(Fixture(_PROGRAMS[name], name, partial(official_programs.measured, name)) for name in official_programs.CASES),
    *_augmentations(),
    Fixture("ada", "ada-controller", official_augmentations.controller_errors),
    *(Fixture(name, "losses", partial(official_parts.loss_errors, name)) for name in official_parts.LOSSES),
    *(
        Fixture(f"EMA of {which}", "averages", partial(official_parts.average_errors, which))
        for which in ("stylegan2", "biggan")
    ),
    *(
        Fixture("schedules of r3gan", f"r3gan-schedules, {name}", partial(official_parts.schedule_errors, name), False)
        for name in read_manifest("r3gan-schedules")["presets"]
    ),
]
