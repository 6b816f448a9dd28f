"""The checks of each kind, in the order they are run."""

from __future__ import annotations

from ganzoo.testing import (
    architectures,
    augmentations,
    datasets,
    evaluators,
    extractors,
    launchers,
    losses,
    observers,
    optimizers,
    training_checks,
)
from ganzoo.testing.common import COMMON
from ganzoo.testing.kit import Check

CHECKS: dict[str, tuple[Check, ...]] = {
    "architectures": (*COMMON, *architectures.CHECKS, *training_checks.CHECKS),
    "datasets": (*COMMON, *datasets.CHECKS),
    "losses": (*COMMON, *losses.CHECKS),
    "optimizers": (*COMMON, *optimizers.CHECKS),
    "augmentations": (*COMMON, *augmentations.CHECKS),
    "extractors": (*COMMON, *extractors.CHECKS),
    "evaluators": (*COMMON, *evaluators.CHECKS),
    "observers": (*COMMON, *observers.CHECKS),
    "launchers": (*COMMON, *launchers.CHECKS),
}
