"""On a CUDA device: recorded steps equal eager ones bit for bit, also in resumed runs; exceptions have a reason.

make test-gpu
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first matrices are multiplied

import pytest
import torch
from torch import Tensor

import ganzoo
from ganzoo import Amount, Choice
from ganzoo.engine import memory
from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.engine.device import find_device
from ganzoo.engine.step import graphed, run_step
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.checkpoints import load_latest
from ganzoo.testing.kit import ExaminedPart, examine
from ganzoo.testing.small_game import captured_is_eager
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo.training.train import resume, start

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ZOO, TINY = Zoo(), Path(__file__).parents[1] / "tiny.py"
ODD = {"subset": "first 40", "batch_size": 16}  # a last minibatch of 8
LOSSES = ("nonsaturating", "minimax", "hinge", "least-squares", "wasserstein", "relativistic", "boundary-equilibrium")
PENALTIES = ("", "r1:gamma=0.1", "r2:gamma=0.1", "gradient-penalty", "dragan")
TURNS = ("D,G", "D+G", "D,D,G", "D,GD", "D.reals,D.fakes,G")


class Reading(ganzoo.SeparableLoss):
    """Reads a number on the host in every step."""

    def on_reals(self, logits: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-logits).mean() * (1 if logits.mean().item() > 0 else 2)

    def on_fakes(self, logits: Tensor) -> Tensor:
        return torch.nn.functional.softplus(logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        return torch.nn.functional.softplus(-round.fake_logits).mean()


class Saying(Reading):
    """Reads a number on the host in every step, and declares it."""

    capturable = False


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def make_setup(changes: dict[str, Any], architecture: str = f"{TINY}:Tiny") -> TrainingSetup:
    recipe = plan(ZOO, Choice.parse(architecture), Choice("digits", {"size": 8}), None, {**ODD, **changes})
    return build_setup(recipe, ZOO, find_device("cuda"))


def run_steps(setup: TrainingSetup, capture: bool, steps: int = 18) -> tuple[dict[str, Tensor], StepGraph]:
    """18 steps are six epochs of batches of 16, 16 and 8: each size runs eagerly, is recorded and is replayed."""
    game = setup.game
    graph = StepGraph(setup.device, game.random, capture, game.uncapturable)
    for step in range(steps):
        run_step(game, setup.feed, 0, step, graphed(graph))
    torch.cuda.synchronize()
    return game.state(), graph


def different(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


def separable(losses: tuple[str, ...]) -> bool:
    return all(ZOO.load("losses", Choice.parse(loss)).separable for loss in losses)


PRODUCT = [
    (losses, turns)
    for loss in LOSSES
    for penalty in PENALTIES
    for turns in TURNS
    if separable(losses := (loss, penalty) if penalty else (loss,)) or "." not in turns
]


@pytest.mark.parametrize(("losses", "turns"), PRODUCT, ids=[f"{' '.join(losses)} {turns}" for losses, turns in PRODUCT])
def test_captured_is_eager_bit_for_bit(losses: tuple[str, ...], turns: str) -> None:
    changes = {"losses": losses, "turns": turns, "ema_half_life": 100}
    eager, _ = run_steps(make_setup(changes), capture=False)
    captured, graph = run_steps(make_setup(changes), capture=True)
    assert graph.captured, graph.reason
    assert not different(eager, captured)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"generator_mode_for_discriminator": "inference"},
        {"discriminator_optimizer": None, "generator_optimizer": "keras-adam"},
        {"generator_optimizer": "keras-rmsprop:clip_value=1.0", "discriminator_optimizer": "rmsprop:clip=0.1"},
        {"generator_optimizer": "adam:decay_images=200", "augmentations": ("diffaugment",)},
        {"batch_order": "replacement", "losses": ("nonsaturating", f"{TINY}:Remembering")},
    ],
    ids=str,
)
def test_captured_is_eager_for_other_recipes(changes: dict[str, Any]) -> None:
    eager, _ = run_steps(make_setup(changes), capture=False)
    captured, graph = run_steps(make_setup(changes), capture=True)
    assert graph.captured, graph.reason
    assert not different(eager, captured)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_tutorial_captured_is_the_tutorial(precision: str) -> None:
    changes = {"precision": precision, "batch_size": 16}
    eager, _ = run_steps(make_setup(changes, "dcgan-tutorial:width=8"), capture=False)
    captured, graph = run_steps(make_setup(changes, "dcgan-tutorial:width=8"), capture=True)
    assert graph.captured, graph.reason
    assert not different(eager, captured)


def test_images_streamed_from_the_host_are_those_held_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    resident, _ = run_steps(make_setup({}), capture=True, steps=40)
    monkeypatch.setattr(memory, "MEMORY_SHARE", 0.0)
    streamed, graph = run_steps(make_setup({}), capture=True, steps=40)
    assert graph.captured, graph.reason
    assert not different(resident, streamed)


def state_of(run: Path) -> dict[str, Tensor]:
    saved = load_latest(run / "checkpoints")
    assert saved is not None
    assert saved.meta["step"] == 24
    return saved.tensors


@pytest.mark.parametrize("changes", [{}, {"losses": ("nonsaturating", "r1:gamma=0.1"), "precision": "bf16"}], ids=str)
def test_a_resumed_run_records_anew_and_is_the_whole_run(tmp_path: Path, changes: dict[str, Any]) -> None:
    notes: list[str] = []
    device = find_device("cuda")
    fields = {**ODD, "length": "24 steps", "tick_every": "1 steps", **changes}
    recipe = plan(ZOO, Choice(f"{TINY}:Tiny"), Choice("digits", {"size": 8}), None, fields)
    start(recipe, tmp_path / "whole", ZOO, device, note=notes.append)
    start(recipe.merged({"length": "13 steps"}), tmp_path / "halves", ZOO, device, note=notes.append)
    resume(tmp_path / "halves", ZOO, "cuda", Amount(24, "steps"), note=notes.append)
    start(recipe, tmp_path / "eager", ZOO, device, note=lambda text: None, capture=False)
    assert notes == []
    assert not different(state_of(tmp_path / "whole"), state_of(tmp_path / "halves"))
    assert not different(state_of(tmp_path / "whole"), state_of(tmp_path / "eager"))


def test_what_cannot_be_recorded_runs_eagerly_and_says_why() -> None:
    changes = {"losses": (f"{__file__}:Reading",)}
    eager, _ = run_steps(make_setup(changes), capture=False)
    tried, graph = run_steps(make_setup(changes), capture=True)
    assert not graph.captured
    assert graph.reason.startswith("the step cannot be recorded: ")
    assert "test_gpu.py, line " in graph.reason
    assert not different(eager, tried)
    # and the next game can be recorded again
    again, graph = run_steps(make_setup({}), capture=True)
    assert graph.captured, graph.reason
    assert not different(again, run_steps(make_setup({}), capture=False)[0])


def test_a_part_that_is_not_capturable_is_not_tried(tmp_path: Path) -> None:
    _, graph = run_steps(make_setup({"losses": (f"{__file__}:Saying",)}), capture=True)
    assert graph.reason == "the loss Saying has capturable = False"
    notes: list[str] = []
    fields = {"length": "4 steps", "losses": (f"{__file__}:Saying",)}
    recipe = plan(ZOO, Choice(f"{TINY}:Tiny"), Choice("digits", {"size": 8}), None, fields)
    start(recipe, tmp_path / "run", ZOO, find_device("cuda"), note=notes.append)
    assert notes == [f"Steps run eagerly, without a CUDA graph: {graph.reason}."]


def test_compiled_steps_can_be_recorded() -> None:
    from ganzoo.engine.compile import compile_networks

    eager, tried = make_setup({}), make_setup({})
    assert compile_networks(tried.game, tried.feed) == ""
    expected, _ = run_steps(eager, capture=False, steps=8)
    found, graph = run_steps(tried, capture=True, steps=8)
    assert graph.captured, graph.reason
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("architectures", "losses", "optimizers", "augmentations") for name in ZOO.names(kind)],
)
def test_every_part_of_the_zoo_can_be_recorded(kind: str, name: str) -> None:
    torch.use_deterministic_algorithms(False)  # not every kernel of a large network has a deterministic twin
    outcome = examine(ExaminedPart.of(name, kind), captured_is_eager)
    assert outcome.state == "ok", outcome.reason
