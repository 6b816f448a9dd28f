"""How often the health monitor warns of a training that works: every architecture and variant of the zoo, small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ganzoo import Choice
from ganzoo.contract.errors import GanzooError
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import zoo
from ganzoo.training.train import start

#: options that make an architecture small, where it has them
SMALL = {"width": 8, "hidden": 32, "base": 8}
STEPS = 600


def variants() -> list[tuple[str, str | None]]:
    """(architecture, variant or None) of every first-party architecture."""
    found: list[tuple[str, str | None]] = []
    for name in zoo().names("architectures"):
        loaded = zoo().load("architectures", Choice(name))
        found += [(name, None), *((name, variant) for variant in loaded.recipes)]
    return found


def warnings_of(name: str, variant: str | None, out: Path, **changes: Any) -> list[str]:
    """The warnings of a training of STEPS steps on digits, with a tick and a grid every 20 steps."""
    own = zoo().options("architectures", Choice(name))
    options = {key: value for key, value in SMALL.items() if key in own}
    fields = {"length": f"{STEPS} steps", "batch_size": 32, "tick_every": "20 steps", "samples_every": "100 steps"}
    fields |= {"checkpoint_every": f"{STEPS} steps", "evaluators": (), **changes}
    notes: list[str] = []
    for size in (8, 16, 28, 32):
        try:
            digits = Choice("digits", {"size": size})
            recipe = plan(zoo(), Choice(name, options), digits, variant, fields)
            start(recipe, out, zoo(), torch.device("cpu"), note=notes.append)
            return [text for text in notes if text.startswith("Warning")]
        except GanzooError as error:
            refused = error
    raise refused


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), variants())
def test_a_training_that_works_gets_no_warning(name: str, variant: str | None, tmp_path: Path) -> None:
    assert warnings_of(name, variant, tmp_path / "run") == []
