"""Parts with one fault each: for every check of the conformance kit, a part that must fail it.

`GOOD` has a part of each kind that passes all checks; `MUTANTS` has the faulty ones, by kind and name of the check.
"""

from __future__ import annotations

from typing import Annotated, Any

import click
import torch

from mutants import (
    architectures,
    augmentations,
    datasets,
    evaluators,
    extractors,
    launchers,
    losses,
    observers,
    optimizers,
)

_MODULES = {
    "architectures": architectures,
    "datasets": datasets,
    "losses": losses,
    "optimizers": optimizers,
    "augmentations": augmentations,
    "extractors": extractors,
    "evaluators": evaluators,
    "observers": observers,
    "launchers": launchers,
}
GOOD: dict[str, type[Any]] = {kind: module.Good for kind, module in _MODULES.items()}


def _out_of_bounds(good: type[Any]) -> type[Any]:
    class FaultyDataset(good):
        """Its default breaks its own bounds."""

        def __init__(self, *, split: str = "train", level: Annotated[int, click.IntRange(min=1)] = 0) -> None:
            super().__init__(split=split)

    class FaultyPart(good):
        """Its default breaks its own bounds."""

        def __init__(self, *, level: Annotated[int, click.IntRange(min=1)] = 0) -> None:
            super().__init__()

    return FaultyDataset if good is datasets.Good else FaultyPart


def _changing_threads(good: type[Any]) -> type[Any]:
    class FaultyDataset(good):
        """Changes the number of threads of the process."""

        def __new__(cls, *, split: str = "train") -> Any:
            torch.set_num_threads(torch.get_num_threads() + 1)
            return super().__new__(cls)

    class FaultyPart(good):
        """Changes the number of threads of the process."""

        def __new__(cls) -> Any:
            torch.set_num_threads(torch.get_num_threads() + 1)
            return super().__new__(cls)

    return FaultyDataset if good is datasets.Good else FaultyPart


MUTANTS: dict[str, dict[str, type[Any]]] = {
    kind: {
        "has_a_docstring": type("Undescribed", (module.Good,), {"__doc__": None}),
        "options_survive_json": _out_of_bounds(module.Good),
        "leaves_the_process_as_it_was": _changing_threads(module.Good),
        **module.MUTANTS,
    }
    for kind, module in _MODULES.items()
}
#: other checks that a mutant must fail too, because its fault breaks both
ALSO: dict[tuple[str, str], set[str]] = {
    (kind, check): others for kind, module in _MODULES.items() for check, others in getattr(module, "ALSO", {}).items()
}
