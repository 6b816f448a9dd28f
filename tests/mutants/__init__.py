"""Parts with one fault each: for every check of the conformance kit the part that it must catch.

`GOOD` is a part of each kind that passes everything; `MUTANTS` the faulty ones, by kind and by the name of the check.
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
}
GOOD: dict[str, type[Any]] = {kind: module.Good for kind, module in _MODULES.items()}


def _out_of_bounds(good: type[Any]) -> type[Any]:
    class Set(good):
        """Its default breaks its own bounds."""

        def __init__(self, *, split: str = "train", level: Annotated[int, click.IntRange(min=1)] = 0) -> None:
            super().__init__(split=split)

    class Other(good):
        """Its default breaks its own bounds."""

        def __init__(self, *, level: Annotated[int, click.IntRange(min=1)] = 0) -> None:
            super().__init__()

    return Set if good is datasets.Good else Other


def _meddling(good: type[Any]) -> type[Any]:
    class Set(good):
        """Takes one more thread for itself, of the whole process."""

        def __new__(cls, *, split: str = "train") -> Any:
            torch.set_num_threads(torch.get_num_threads() + 1)
            return super().__new__(cls)

    class Other(good):
        """Takes one more thread for itself, of the whole process."""

        def __new__(cls) -> Any:
            torch.set_num_threads(torch.get_num_threads() + 1)
            return super().__new__(cls)

    return Set if good is datasets.Good else Other


MUTANTS: dict[str, dict[str, type[Any]]] = {
    kind: {
        "has_a_docstring": type("Undescribed", (module.Good,), {"__doc__": None}),
        "options_survive_json": _out_of_bounds(module.Good),
        "leaves_the_process_as_it_was": _meddling(module.Good),
        **module.MUTANTS,
    }
    for kind, module in _MODULES.items()
}
#: what else a mutant must fail, because one fault breaks two promises
ALSO: dict[tuple[str, str], set[str]] = {
    (kind, check): others for kind, module in _MODULES.items() for check, others in getattr(module, "ALSO", {}).items()
}
