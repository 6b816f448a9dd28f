"""Gradient accumulation: the numbers of the whole batch with the memory of a part, and what it refuses."""

from __future__ import annotations

import re
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL_DIGITS, ZOO, ganzoo
from published import default_dtype
from tiny import Tiny
from torch import Tensor

import ganzoo as package
from ganzoo import Choice, Recipe, UsageError
from ganzoo.engine import step as step_module
from ganzoo.engine.accumulation import mean_over_parts
from ganzoo.engine.step import run_step
from ganzoo.registry.recipes import plan
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo.training.coupling import coupling_of, why_no_mean
from ganzoo.training.preflight import preflight

CPU = torch.device("cpu")
TINY = Path(__file__).parents[1] / "tiny.py"
#: architecture and changes of its recipe; 30 images in batches of 12, 12 and 6
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("mlp-vanilla:width=8", {"losses": ["nonsaturating"]}),
    "r1, at once": ("mlp-vanilla:width=8", {"losses": ["nonsaturating", "r1:every=2"], "turns": "D+G"}),
    "pairs of reals and fakes": (
        "mlp-vanilla:width=8",
        {"losses": ["relativistic", "r1", "r2"], "turns": "D,G.new", "preprocessing": "flip", "ema_half_life": 20},
    ),
    "classes of their own": (f"{TINY}:TinyConditional:norm=false,dropout=0", {"fake_labels": "uniform"}),
    "one side after the other": ("mlp-vanilla:width=8", {"turns": "D.reals,D.fakes,GD"}),
}


def make_setup(architecture: str, **changes: Any) -> TrainingSetup:
    fields = {"batch_size": 12, "batch_order": "epochs", "subset": "first 30", **changes}
    return build_setup(plan(ZOO, Choice.parse(architecture), SMALL_DIGITS, None, fields), ZOO, CPU)


def trained(architecture: str, steps: int = 3, **changes: Any) -> dict[str, Tensor]:
    with default_dtype(torch.float64):
        setup = make_setup(architecture, **changes)
        for step in range(steps):
            run_step(setup.game, setup.feed, setup.recipe.seed, step)
    return setup.game.state()


@cache
def whole_batch(case: str) -> dict[str, Tensor]:
    architecture, changes = CASES[case]
    return trained(architecture, **changes)


@pytest.mark.parametrize(("case", "parts"), [(case, 3) for case in CASES] + [("plain", 2), ("plain", 12)])
def test_parts_of_a_batch_are_the_whole_batch(case: str, parts: int) -> None:
    """Also the last batch of an epoch, of 6 images: parts of 4 and 2, of 6, and of 1."""
    architecture, changes = CASES[case]
    whole, accumulated = whole_batch(case), trained(architecture, accumulate=parts, **changes)
    assert whole.keys() == accumulated.keys()
    # the running means are float32
    far = {
        name: float((value - accumulated[name]).abs().max())
        for name, value in whole.items()
        if not torch.allclose(value, accumulated[name], rtol=1e-10, atol=1e-6 if name.startswith("meter/") else 1e-12)
    }
    assert far == {}


def test_parts_that_all_count_the_same_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over the last batch's parts of 4 and 2 images that forgets their sizes."""
    architecture, _ = CASES["plain"]
    whole = trained(architecture)["generator/dense1.weight"]
    monkeypatch.setattr(
        step_module, "mean_over_parts", lambda parts: mean_over_parts((0.5 if s < 0.9 else 1, p) for s, p in parts)
    )
    halves, thirds = (trained(architecture, accumulate=n)["generator/dense1.weight"] for n in (2, 3))
    assert torch.allclose(whole, halves, rtol=0, atol=1e-12)
    assert not torch.allclose(whole, thirds, rtol=0, atol=1e-6)


class SavedBytes:
    """Counts the bytes that autograd keeps for the backward pass, now and at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> Any:
        class Kept:
            value = tensor.detach()  # with its graph, an output and its node would keep each other

        kept, size = Kept(), tensor.numel() * tensor.element_size()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(kept, self._freed, size)
        return kept

    def _freed(self, size: int) -> None:
        self.now -= size

    def of_a_step(self, setup: TrainingSetup) -> int:
        with torch.autograd.graph.saved_tensors_hooks(self.pack, lambda kept: kept.value):
            run_step(setup.game, setup.feed, 0, 0)
        assert self.now == 0
        return self.most


@pytest.mark.parametrize("turns", ["D,G", "D+G"])
def test_a_step_needs_the_memory_of_a_part(turns: str) -> None:
    """The loss of pairs leaves a graph that no gradient goes through: that of the reals, in the generator's turn."""
    losses = ["relativistic", "r1", "r2"]
    changes = {"batch_size": 256, "subset": "all", "turns": turns, "losses": losses}
    whole, quarter, one = (
        SavedBytes().of_a_step(make_setup("mlp-vanilla:width=8", **{**changes, **more}))
        for more in ({}, {"accumulate": 4}, {"batch_size": 1})
    )
    assert one < quarter < 0.3 * whole


# --- refusals ---


REFUSED = {
    "batch norm": (["dcgan:width=4", "digits:size=16"], r"generator computes .* together.*, by bn0 \(BatchNorm\), and"),
    "batch norm of a file": ([f"{TINY}:Tiny", "digits:size=8"], r"generator .* by norm \(BatchNorm1d\)"),
    "minibatch deviation": (
        ["stylegan2", "digits:size=16", "-o", "channel_base=64", "-o", "mapping_layers=2"],
        "discriminator computes the images of a batch together.* statistics of its own",
    ),
    "deviation of the reals": (
        ["mlp-vanilla", "digits:size=8", "--loss", "nonsaturating", "--loss", "dragan"],
        "dragan .*is no mean over the images of a batch: the loss of one image of the discriminator",
    ),
    "top-k at its end": (
        ["mlp-vanilla", "digits:size=8", "--loss", "hinge:top_k=1 -> 0.5 by 2M"],
        "hinge .*is no mean over the images of a batch: the loss of one image of the generator",
    ),
    "moving means": (
        ["mlp-vanilla", "digits:size=8", "--loss", "nonsaturating", "--loss", "lecam"],
        r"lecam .*changes its state \(anchors\)",
    ),
    "a state that no gradient shows": (
        ["mlp-vanilla", "digits:size=8", "--loss", "boundary-equilibrium"],
        r"boundary-equilibrium .*changes its state \(k\)",
    ),
    "another divisor": (
        ["mlp-vanilla", "digits:size=8", "--batch-size", "9"],
        "accumulate=2 does not divide the batch",
    ),
    "fakes of the turn before": (["dcgan-pytorch", "digits:size=64"], "reuse_fakes=true cannot be used"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_another_training_is_refused(case: str, tmp_path: Path) -> None:
    arguments, reason = REFUSED[case]
    result = ganzoo("train", *arguments, "--accumulate", 2, "--steps", 1, "--out", tmp_path / "run", "-q")
    assert result.exit_code == 2, result.output
    assert re.search(reason, result.output.replace("\n", " ")), result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_other_numbers_of_parts_are_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"accumulate must be (at least 1|a whole number)"):
        Recipe(accumulate=value)


def test_the_default_is_left_out_of_a_recipe() -> None:
    assert {"accumulate", "fake_labels"}.isdisjoint(Recipe().to_dict())
    assert Recipe(accumulate=4, fake_labels="uniform").to_dict()["accumulate"] == 4


LOSSES = [
    name for name in ZOO.names("losses") if name not in ("dragan", "lecam", "boundary-equilibrium", "path-length")
]


def test_losses_that_treat_each_image_by_itself_are_not_refused() -> None:
    setup = make_setup("mlp-vanilla:width=8", losses=LOSSES)
    assert [why_no_mean(loss, setup) for loss in setup.game.losses] == [""] * len(LOSSES)


class Centred(package.Loss):
    """Relativistic average (arXiv:1807.00734): each logit is compared with the mean of the other side."""

    def discriminator(self, round: package.Round) -> Tensor:
        return (round.fake_logits.mean() - round.real_logits).exp().mean()

    def generator(self, round: package.Round) -> Tensor:
        return -round.fake_logits.mean()


def test_a_loss_of_means_is_refused() -> None:
    setup = make_setup("mlp-vanilla:width=8")
    assert "loss of one image of the discriminator depends on others" in why_no_mean(Centred(), setup)


class Statistics(torch.nn.Module):
    """Adds a weak function of the deviation over the batch, which `gain` = 0 hides at first."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return images + self.gain * images.std(0).mean()


def test_a_coupling_that_first_weights_hide_is_found() -> None:
    inputs, labels = torch.randn(5, 3), torch.zeros(4, dtype=torch.int64)
    assert coupling_of(Statistics(), inputs, labels) == "Statistics"
    alone, _ = Tiny(norm=False, dropout=0.5).networks(package.ImageSpec(1, 4, 4, 3))
    assert coupling_of(alone, torch.randn(5, 4), labels) == ""


def test_the_check_changes_nothing() -> None:
    states = []
    for checked in (False, True):
        setup = make_setup(f"{TINY}:TinyConditional:norm=false", accumulate=2, losses=["nonsaturating", "r1"])
        random = torch.get_rng_state()
        if checked:
            preflight(setup, ZOO)
        assert torch.equal(random, torch.get_rng_state())
        run_step(setup.game, setup.feed, 0, 0)
        states.append(setup.game.state())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


# --- runs ---


def final_state(run: Path) -> dict[str, Tensor]:
    saved = checkpoints.load_latest(run / "checkpoints")
    assert saved is not None
    return saved.tensors


def test_a_run_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    arguments = [
        "train",
        "mlp-vanilla",
        "digits:size=8",
        "-o",
        "width=8",
        "--accumulate",
        4,
        "--fake-labels",
        "uniform",
    ]
    for name, steps in (("whole", 4), ("parts", 2)):
        result = ganzoo(*arguments, "--steps", steps, "--tick-every", 1, "--out", tmp_path / name, "-q")
        assert result.exit_code == 0, result.output
    assert Run.open(tmp_path / "whole").recipe.accumulate == 4
    assert ganzoo("resume", tmp_path / "parts", "--steps", 4, "-q").exit_code == 0
    whole, parts = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    found = ganzoo("resume", tmp_path / "parts", "--steps", 5, "--set", "accumulate=3", "-q")
    assert found.exit_code == 2
    assert "accumulate=3 does not divide the batch of 16" in found.output
    assert ganzoo("resume", tmp_path / "parts", "--steps", 5, "--set", "accumulate=2", "-q").exit_code == 0
    assert ganzoo("replay", tmp_path / "parts", "--step", 5, "--json").exit_code == 0
