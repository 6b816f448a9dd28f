"""Compiled networks: their numbers, what is not compiled and why, and resumed runs.

All but two tests use a backend that generates no code; torch traces and differentiates in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kills
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import ganzoo
from ganzoo import Amount, Choice
from ganzoo.engine import compile
from ganzoo.engine.compile import compile_networks, compiled_networks
from ganzoo.engine.step import run_step
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.checkpoints import load_latest
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo.training.diagnosis import examine
from ganzoo.training.train import resume, start

TINY = Path(__file__).parents[1] / "tiny.py"
ODD = {"subset": "first 40", "batch_size": 16}  # a last minibatch of 8
QUICK = kills.recipe().merged({"length": "2 steps", "evaluators": ()})


class Reading(ganzoo.Architecture):
    """Its discriminator reads a number on the host, which cannot be compiled."""

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        return Drawing(images), ReadingDiscriminator(images)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, 4, generator=generator, device=generator.device)


class Drawing(nn.Module):
    def __init__(self, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.linear, self.shape = nn.Linear(4, images.pixels), (images.channels, images.height, images.width)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return torch.tanh(self.linear(latents)).view(-1, *self.shape)


class ReadingDiscriminator(nn.Module):
    def __init__(self, images: ganzoo.ImageSpec) -> None:
        super().__init__()
        self.linear = nn.Linear(images.pixels, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        scale = images.detach().abs().max().item()
        return self.linear(images.flatten(1)) / (scale if scale > 1 else 1)


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "BACKEND", "aot_eager")


def make_setup(changes: dict[str, Any], architecture: str = f"{TINY}:Tiny") -> TrainingSetup:
    zoo = Zoo()
    recipe = plan(zoo, Choice(architecture), Choice("digits", {"size": 8}), None, changes)
    return build_setup(recipe, zoo, torch.device("cpu"))


def run_steps(setup: TrainingSetup, steps: int) -> dict[str, Tensor]:
    for step in range(steps):
        run_step(setup.game, setup.feed, 0, step)
    return setup.game.state()


def not_close(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name in first if not torch.allclose(first[name], second[name], rtol=1e-4, atol=1e-6)]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("turns", ["D,G", "D+G"])
def test_compiled_steps_are_eager_steps_and_compiling_leaves_no_trace(turns: str) -> None:
    changes = {**ODD, "turns": turns, "ema_half_life": 100}
    plain, tried = make_setup(changes), make_setup(changes)
    before = {name: value.clone() for name, value in tried.game.state().items()}
    assert compile_networks(tried.game, tried.feed) == ""
    assert compiled_networks(tried.game) == ["generator", "discriminator"]
    after = tried.game.state()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    calls = [dict.fromkeys(network._modules) for network in tried.game.called.values()]  # type: ignore[attr-defined]
    assert calls == [{"_orig_mod": None}] * 2
    assert tried.game.ema.network is not tried.game.called["generator"]
    codes = dict(counters["stats"])
    assert not not_close(run_steps(plain, 4), run_steps(tried, 4))  # the third step has the other batch size
    assert counters["stats"] == codes  # which was compiled before the first step


@pytest.mark.usefixtures("quick")
def test_with_a_penalty_the_discriminator_is_not_compiled() -> None:
    changes = {"losses": ("nonsaturating", "r1:gamma=0.1"), **ODD}
    plain, tried = make_setup(changes), make_setup(changes)
    words = compile_networks(tried.game, tried.feed)
    assert words.startswith("Not compiled: discriminator (torch.compile with aot_autograd does not currently support")
    assert compiled_networks(tried.game) == ["generator"]
    assert not not_close(run_steps(plain, 4), run_steps(tried, 4))


@pytest.mark.usefixtures("quick")
def test_a_network_that_reads_on_the_host_is_not_compiled() -> None:
    tried = make_setup(ODD, f"{__file__}:Reading")
    words = compile_networks(tried.game, tried.feed)
    assert words.startswith("Not compiled: discriminator (")
    assert "data-dependent" in words
    assert compiled_networks(tried.game) == ["generator"]
    run_steps(tried, 1)


@pytest.mark.usefixtures("quick")
def test_a_loss_that_fails_does_not_end_the_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that also occurs without compiling is reported by the step itself."""
    tried = make_setup({})
    monkeypatch.setattr(tried.game.losses[0], "on_reals", lambda logits: logits.nosuch())
    words = compile_networks(tried.game, tried.feed)
    assert words.startswith("Not compiled: generator and discriminator ('Tensor' object has no attribute 'nosuch'")
    assert compiled_networks(tried.game) == []


def test_a_machine_without_a_compiler_trains_eagerly_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    notes: list[str] = []
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}):
        start(QUICK, tmp_path / "run", kills.ZOO, kills.CPU, note=notes.append, compile=True)
    assert notes[0].startswith("Not compiled: generator and discriminator (")
    assert "no-such-compiler" in notes[0]
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["compile"] == []


@pytest.mark.usefixtures("quick")
def test_a_run_records_what_was_compiled_and_notes_a_change(tmp_path: Path) -> None:
    notes: list[str] = []
    out = tmp_path / "run"
    start(QUICK, out, kills.ZOO, kills.CPU, note=notes.append, compile=True)
    assert json.loads((out / "environment.json").read_text())["compile"] == ["generator", "discriminator"]
    resume(out, kills.ZOO, "cpu", Amount(3, "steps"), note=notes.append)  # compiled, as at the start
    assert notes == []
    resume(out, kills.ZOO, "cpu", Amount(4, "steps"), note=notes.append, compile=False)
    (said,) = notes
    assert said.startswith("Resumed with another")
    assert "(generator, discriminator then, none now)" in said


@pytest.mark.usefixtures("quick")
def test_a_diagnosed_compiled_step_is_the_step(tmp_path: Path) -> None:
    plain, watched = make_setup({}), make_setup({})
    for setup in (plain, watched):
        compile_networks(setup.game, setup.feed)
    expected = run_steps(plain, 1)
    watched.game.reseed(0, 0)
    watched.game.advance(0)
    seen = examine(watched.game, watched.feed.fill(0))
    assert seen["first_bad"] is None
    assert {cost["what"] for cost in seen["costs"]} == {"discriminator", "generator"}
    assert all(torch.equal(value, expected[name]) for name, value in watched.game.state().items())
    with torch.no_grad():
        watched.game.discriminator.first.weight.fill_(torch.nan)
    bad = examine(watched.game, watched.feed.fill(1))["first_bad"]
    assert (bad["kind"], bad["name"]) == ("output", "discriminator.first")


@pytest.mark.slow
def test_a_compiled_run_that_is_resumed_is_the_whole_run(tmp_path: Path) -> None:
    """With real code, and a last minibatch of another size: each half compiles for itself."""
    recipe = kills.recipe().merged({"length": "8 steps", "evaluators": (), "turns": "D+G", **ODD})
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    start(recipe, whole, kills.ZOO, kills.CPU, note=pytest.fail, compile=True)
    torch._dynamo.reset()
    start(recipe.merged({"length": "5 steps"}), halves, kills.ZOO, kills.CPU, note=pytest.fail, compile=True)
    torch._dynamo.reset()
    resume(halves, kills.ZOO, "cpu", Amount(8, "steps"), note=pytest.fail, compile=True)
    first, second = (load_latest(run / "checkpoints") for run in (whole, halves))
    assert first is not None
    assert second is not None
    assert first.meta["step"] == second.meta["step"] == 8
    assert all(torch.equal(value, second.tensors[name]) for name, value in first.tensors.items())
