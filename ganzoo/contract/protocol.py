"""Protocols: how scores are measured. Scores of different protocols cannot be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ganzoo.contract.errors import UsageError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How many fakes are compared with which reals, and with which options of the extractors."""

    name: str
    description: str
    #: number of fakes
    samples: int = 10_000
    #: the split of the dataset whose images, all of them, are the reals
    split: str = "train"
    #: name of an extractor -> options that it is built with
    extractors: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    #: the length of the training, where the protocol prescribes one; empty: the length of the recipe
    length: str = ""

    @property
    def other_split(self) -> str:
        """The split of the dataset that the reals are not from."""
        return "test" if self.split == "train" else "train"

    @staticmethod
    def named(name: str) -> Protocol:
        """The protocol with this name. Raises UsageError where there is none."""
        if name not in PROTOCOLS:
            raise UsageError(
                f"There is no protocol {name!r}.{did_you_mean(name, PROTOCOLS)} Known: {', '.join(PROTOCOLS)}."
            )
        return PROTOCOLS[name]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("default", "10,000 fakes against the training images, images resized as the original FID does"),
        Protocol(
            "torchmetrics",
            "as default, with antialiased resizing, the default of torchmetrics",
            extractors={"inception": {"antialias": True}},
        ),
        Protocol(
            "fast",
            "as default, with Inception features in bfloat16, from a compiled network where there is a C++ compiler",
            extractors={"inception": {"precision": "bf16", "compile": True}},
        ),
        Protocol(
            "ttur",
            "Heusel et al. 2017 (arXiv:1706.08500): 50,000 fakes against the training images",
            samples=50_000,
        ),
        Protocol(
            "lucic2018",
            "Lucic et al. 2018 (arXiv:1711.10337): 10,000 fakes against the test images, 20 epochs of training",
            split="test",
            length="20 epochs",
        ),
    )
}


def check_samples(samples: int | None) -> None:
    """Raise UsageError for a number of fake images that no score can be computed from."""
    if samples is not None and samples < 2:
        raise UsageError(f"--samples {samples}: a score needs at least 2 images, and means little below 1000.")
