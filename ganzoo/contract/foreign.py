"""What the checkpoint of another program holds, and the weights of an architecture in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class ForeignFile:
    """The content of a checkpoint of another program, read without running anything that it asks for."""

    path: Path
    #: tensors on the CPU by flat name; the names of nested dicts, lists and modules are joined with a slash
    tensors: Mapping[str, Tensor]
    #: numbers, texts, booleans and None by flat name
    values: Mapping[str, Any] = field(default_factory=dict)
    #: of the whole file
    sha256: str = ""

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix` and a slash, without both; slashes become dots."""
        start = prefix + "/" if prefix else ""
        return {n.removeprefix(start).replace("/", "."): t for n, t in self.tensors.items() if n.startswith(start)}


@dataclass(frozen=True, kw_only=True)
class ForeignWeights:
    """Weights of an architecture that come from another program, and what follows from their shapes.

    A file may hold some of the networks only; several files are imported together then.
    """

    #: options of the architecture
    options: Mapping[str, Any] = field(default_factory=dict)
    #: fields of `ImageSpec`: channels, height, width, classes
    images: Mapping[str, int] = field(default_factory=dict)
    #: state dicts of the networks, under the names of `Architecture.networks`; None where the file does not have them.
    #: `average` is the generator's moving average
    generator: Mapping[str, Tensor] | None = None
    average: Mapping[str, Tensor] | None = None
    discriminator: Mapping[str, Tensor] | None = None
    #: the variant of the architecture's recipe that the program trained with; empty for the recipe itself
    recipe: str = ""
    #: what the program trained on, as a spec, where that is not the dataset of the recipe; may be empty
    dataset: str = ""
    #: a note for the user, such as how long the weights were trained; may be empty
    note: str = ""
