"""Every architecture of the zoo: 4 steps and 4 more are the same as 8 steps, bit for bit, on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import ZOO
from small_architectures import NAMES, SMALL

from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.recipe import Recipe
from ganzoo.registry.recipes import plan
from ganzoo.storage import checkpoints
from ganzoo.training.train import resume, start

OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
ARCHITECTURES = ZOO.names("architectures")
#: small and quick, with the networks, losses, optimisers and turns of each architecture's own recipe
CHANGES = {"batch_size": 8, "samples_every": "3 steps", "tick_every": "3 steps", "checkpoint_every": "100 steps"}


def recipe_of(name: str, length: str) -> Recipe:
    """The recipe of an architecture; a rate that falls over the length of the run falls over 100 images instead."""
    (options,) = (SMALL[architecture] for architecture, known in NAMES.items() if known == name)
    chosen, dataset, fields = Choice(name, options), Choice.parse("digits:size=16"), {**CHANGES, "length": length}
    recipe = plan(ZOO, chosen, dataset, None, fields)
    optimizers = {field: getattr(recipe, field) for field in OPTIMIZERS}
    falling = [field for field, optimizer in optimizers.items() if optimizer and "linear" in optimizer.options.values()]
    return plan(ZOO, chosen, dataset, None, fields, {field: {"decay_images": 100} for field in falling})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_four_and_four_are_eight(name: str, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    states = {}
    for out, length in (("whole", "8 steps"), ("halves", "4 steps")):
        start(recipe_of(name, length), tmp_path / out, ZOO, cpu, note=lambda text: None)
    resume(tmp_path / "halves", ZOO, length=Amount(8, "steps"), note=lambda text: None)
    for out in ("whole", "halves"):
        found = checkpoints.load_latest(tmp_path / out / "checkpoints")
        assert found is not None
        states[out] = found[0]
    assert states["whole"].keys() == states["halves"].keys()
    different = [key for key, value in states["whole"].items() if not torch.equal(value, states["halves"][key])]
    assert not different
    # the weights do change: a run that never updates them would pass the test above
    start(recipe_of(name, "1 steps"), tmp_path / "first", ZOO, cpu, note=lambda text: None)
    first = checkpoints.load_latest(tmp_path / "first" / "checkpoints")
    assert first is not None
    weights = [
        key for key in states["whole"] if key.startswith(("generator/", "discriminator/")) and key.endswith("weight")
    ]
    assert weights
    assert all(not torch.equal(states["whole"][key], first[0][key]) for key in weights)
