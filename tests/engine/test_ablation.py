"""Ablation of checkpoints: where an item is left out, the resumed run differs.

Where it did not, the item would not be needed, or the tests of resuming would miss it. The game has all kinds of
state: batch norm, spectral norm, dropout, an EMA, and parts with buffers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kills
import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import ganzoo
from ganzoo import Choice, GanzooError, Recipe
from ganzoo.contract.choice import Amount
from ganzoo.engine.step import run_step
from ganzoo.registry.recipes import plan
from ganzoo.storage import checkpoints
from ganzoo.training.build import build_setup
from ganzoo.training.train import resume, start

HERE = f"{__file__}:"
#: where the run is stopped: between two ticks, within an epoch
STOP, STEPS = 4, 9


class Spectral(tiny.Tiny):
    """As Tiny, with spectral norm in the discriminator: u and v change in every forward pass."""

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        generator, discriminator = super().networks(images)
        discriminator.first = spectral_norm(discriminator.first)
        return generator, discriminator


class Fading(ganzoo.Augmentation):
    """Images fade with every call: its buffer changes inside the step."""

    looks: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("looks", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.looks.add_(1)
        return images * (1 - 0.01 * self.looks)


class Tiring(ganzoo.Optimizer):
    """Adam whose updates shrink by a buffer that all its players share."""

    tiredness: Tensor

    def __init__(self, *, lr: float = 1e-3) -> None:
        super().__init__()
        self.lr = lr
        self.register_buffer("tiredness", torch.ones(()))

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        """Adam; after each step the tiredness grows, and pulls the weights to zero."""
        optimizer = torch.optim.Adam(list(parameters), lr=torch.tensor(self.lr), betas=(0.5, 0.999), fused=True)

        @torch.no_grad()
        def after(stepped: torch.optim.Optimizer, *_: Any) -> None:
            self.tiredness.mul_(0.999)
            for group in stepped.param_groups:
                torch._foreach_mul_(group["params"], self.tiredness)

        optimizer.register_step_post_hook(after)
        return optimizer

    def learning_rate(self, images_seen: int) -> float:
        """Always the same."""
        return self.lr


def recipe(steps: int) -> Recipe:
    fields = {
        "length": f"{steps} steps",
        "subset": "first 40",
        "tick_every": "3 steps",
        "samples_every": "3 steps",
        "checkpoint_every": "100 steps",
        "ema_half_life": 50,
        "losses": ["nonsaturating", f"{tiny.__file__}:Remembering"],
        "augmentations": [f"{HERE}Fading"],
        "generator_optimizer": f"{HERE}Tiring",
    }
    return plan(kills.ZOO, Choice(f"{HERE}Spectral"), Choice("digits", {"size": 8}), None, fields)


#: item -> the tensors of a state that are part of it
ITEMS: Mapping[str, Callable[[str], bool]] = {
    "generator": lambda name: name.startswith("generator/") and "norm.running" not in name and "num_" not in name,
    "its batch norm's running statistics": lambda name: name.startswith("generator/norm.running"),
    "its batch norm's counter": lambda name: name == "generator/norm.num_batches_tracked",
    "discriminator": lambda name: name.startswith("discriminator/") and not name.endswith(("._u", "._v")),
    "its spectral norm's u and v": lambda name: name.startswith("discriminator/") and name.endswith(("._u", "._v")),
    "average": lambda name: name.startswith("average/") and "norm.running" not in name and "num_" not in name,
    "the average's running statistics": lambda name: name.startswith("average/norm.running"),
    "memory of a loss": lambda name: name == "loss1/mean",
    "memory of an augmentation": lambda name: name == "augmentation0/looks",
    "memory of an optimiser's part": lambda name: name == "generator_optimizer/tiredness",
    "first moments, discriminator": lambda name: name.startswith("playerD/") and name.endswith("/exp_avg"),
    "second moments, discriminator": lambda name: name.startswith("playerD/") and name.endswith("/exp_avg_sq"),
    "step counters, discriminator": lambda name: name.startswith("playerD/") and name.endswith("/step"),
    "first moments, generator": lambda name: name.startswith("playerG/") and name.endswith("/exp_avg"),
    "second moments, generator": lambda name: name.startswith("playerG/") and name.endswith("/exp_avg_sq"),
    "step counters, generator": lambda name: name.startswith("playerG/") and name.endswith("/step"),
    "sums of the meter": lambda name: name == "meter/sums",
    "count of the meter": lambda name: name == "meter/count",
}
#: computed from others in the next step, so that leaving them out changes nothing: the EMA copies the generator's
#: counter, and spectral norm starts with u = W v
DERIVED = ("discriminator/first.parametrizations.weight.0._u", "average/norm.num_batches_tracked")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """A run that was stopped, the results of the whole run, and the state before the first step."""
    folder = tmp_path_factory.mktemp("ablation")
    for name, steps in (("whole", STEPS), ("stopped", STOP)):
        start(recipe(steps), folder / name, kills.ZOO, kills.CPU, note=lambda text: None)
    setup = build_setup(recipe(STOP), kills.ZOO, kills.CPU)
    fresh = {name: value.clone() for name, value in setup.game.state().items()}
    return folder / "stopped", kills.left(folder / "whole"), fresh


def resumed(stopped: Path, out: Path, tensors: Mapping[str, Tensor], **meta: Any) -> dict[str, Any]:
    """The results of a copy of the stopped run that is resumed from another state."""
    shutil.copytree(stopped, out)
    found = checkpoints.load_latest(out / "checkpoints")
    assert found is not None
    shutil.rmtree(out / "checkpoints")
    facts = {**found.meta, **meta}
    facts.pop("format")
    checkpoints.save(out / "checkpoints", f"{facts['images']:09d}", tensors, facts)
    (out / "samples" / f"{facts['images']:09d}.png").unlink(missing_ok=True)  # of the end of the stopped run: it stays
    resume(out, kills.ZOO, length=Amount(STEPS, "steps"), note=lambda text: None)
    return _comparable(kills.left(out))


def _comparable(left: dict[str, Any]) -> dict[str, Any]:
    """Without the names of checkpoints: a run that was stopped has one more."""
    return {key: value for key, value in left.items() if key != "checkpoints"} | {"files": _pictures(left["files"])}


def _pictures(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith("samples/")}


def saved(stopped: Path) -> checkpoints.Saved:
    found = checkpoints.load_latest(stopped / "checkpoints")
    assert found is not None
    assert found.meta["step"] == STOP
    return found


def at_first(name: str, value: Tensor, fresh: Mapping[str, Tensor]) -> Tensor:
    """The value of a tensor that is not restored; an optimiser's state starts with zeros."""
    return fresh.get(name, torch.zeros_like(value))


def test_with_all_of_it_nothing_differs(runs, tmp_path):
    stopped, expected, _ = runs
    found = saved(stopped)
    assert resumed(stopped, tmp_path / "run", found.tensors) == _comparable(expected)


def test_the_items_are_all_there_is(runs):
    found = saved(runs[0])
    owners = {name: [item for item, has in ITEMS.items() if has(name)] for name in found.tensors}
    assert [name for name, items in owners.items() if not items] == ["average/norm.num_batches_tracked"]
    assert all(len(items) <= 1 for items in owners.values())
    assert {item for items in owners.values() for item in items} == set(ITEMS)


def test_each_item_left_out_shows(runs, tmp_path, capsys):
    stopped, whole, fresh = runs
    found, expected = saved(stopped), _comparable(whole)
    rows, unseen = [], []
    cases: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {
        item: ({n: at_first(n, v, fresh) if has(n) else v for n, v in found.tensors.items()}, {})
        for item, has in ITEMS.items()
    }
    cases["step"] = (found.tensors, {"step": STOP - 1})
    for index, (item, (tensors, meta)) in enumerate(cases.items()):
        after = resumed(stopped, tmp_path / str(index), tensors, **meta)
        if after == expected:
            unseen.append(item)
        largest = max(_difference(after["state"][name], value) for name, value in expected["state"].items())
        where = [key for key in expected if after.get(key) != expected[key]]
        rows.append(f"{item:36} {largest:9.2g}   {', '.join(where)}")
    with capsys.disabled():
        print("\nleft out                             largest difference, and what differs", *rows, sep="\n")  # noqa: T201
    assert unseen == []


def _difference(one: Any, other: Any) -> float:
    pair = [torch.as_tensor(value, dtype=torch.float64) for value in (one, other)]
    return float((pair[0] - pair[1]).abs().max()) if pair[0].numel() else 0.0


def test_each_single_tensor_left_out_shows(runs):
    """The same for single tensors, in the game alone."""
    stopped, _, fresh = runs
    found = saved(stopped)
    setup = build_setup(recipe(STOP), kills.ZOO, kills.CPU)

    def after(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        setup.game.restore(tensors)
        for step in range(STOP, STOP + 2):
            run_step(setup.game, setup.feed, setup.recipe.seed, step)
        return {name: value.clone() for name, value in setup.game.state().items()}

    expected, unseen = after(found.tensors), []
    assert all(torch.equal(value, expected[name]) for name, value in after(found.tensors).items())
    for name, value in found.tensors.items():
        state = after({**found.tensors, name: at_first(name, value, fresh)})
        if all(torch.equal(value, expected[key]) for key, value in state.items()):
            unseen.append(name)
    assert sorted(unseen) == sorted(DERIVED)


def test_a_state_without_one_of_them_is_refused(runs):
    found = saved(runs[0])
    setup = build_setup(recipe(STOP), kills.ZOO, kills.CPU)
    setup.game.restore(found.tensors)
    before = {name: value.clone() for name, value in setup.game.state().items()}
    for name in found.tensors:
        fewer = {key: value * 0 for key, value in found.tensors.items() if key != name}
        with pytest.raises(GanzooError, match=r"does not fit this recipe in 1 places: .* is missing"):
            setup.game.restore(fewer)
    assert all(torch.equal(value, before[name]) for name, value in setup.game.state().items())
