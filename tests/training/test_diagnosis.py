"""What a training leaves behind that went wrong, and the step that can be played again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ganzoo import Choice, GanzooError, Recipe, UsageError
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import is_finite
from ganzoo.training.health import COLLAPSED, PATIENCE, HealthMonitor
from ganzoo.training.replay import replay
from ganzoo.training.train import start

CPU, ZOO = torch.device("cpu"), Zoo()
SOURING = f"{tiny.__file__}:Souring"


def recipe(steps: int, architecture: str = "Tiny", **changes: Any) -> Recipe:
    fields = {"length": f"{steps} steps", **changes}
    return plan(ZOO, Choice(f"{tiny.__file__}:{architecture}"), Choice("digits", {"size": 8}), None, fields)


def diverge(out: Path, after: int, **changes: Any) -> dict[str, Any]:
    losses = ["nonsaturating", f"{SOURING}:after={after}"]
    with pytest.raises(GanzooError, match="The training has diverged"):
        start(recipe(400, losses=losses, **changes), out, ZOO, CPU, note=lambda text: None)
    return json.loads((out / "diagnosis.json").read_text())


@pytest.mark.parametrize("step", [1, 2, 63, 90])
def test_divergence_is_found_within_fifty_steps_and_names_its_step_and_cause(tmp_path, step):
    found = diverge(tmp_path / "run", 16 * (step - 1), tick_every="1000 steps", checkpoint_every="7 steps")
    assert found["step"] == step
    assert found["images"] == 16 * step
    assert found["noticed_at_step"] - step < 50
    bad = found["first_bad"]
    assert (bad["kind"], bad["name"], bad["value"]) == ("cost", "Souring (loss 2)", "nan")
    assert found["replay"] == f"ganzoo replay {tmp_path / 'run'} --step {step}"
    saved = checkpoints.load_latest(tmp_path / "run" / "checkpoints")
    if saved is None:
        assert found["last_good_checkpoint"] is None
        return
    assert found["last_good_checkpoint"].endswith(f"{saved.meta['images']:09d}")
    assert saved.meta["step"] < step
    assert is_finite(saved.tensors)


def test_the_bad_step_can_be_played_again(tmp_path):
    found = diverge(tmp_path / "run", 16 * 9, checkpoint_every="4 steps")
    again = replay(tmp_path / "run", ZOO, found["step"])
    assert again["played_from"] == 8
    assert again["first_bad"] == found["first_bad"]
    assert replay(tmp_path / "run", ZOO, found["step"] - 1)["first_bad"] is None
    assert "anomaly" in replay(tmp_path / "run", ZOO, found["step"], anomaly=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replayed") / "run"
    start(recipe(12, checkpoint_every="4 steps", ema_half_life=50), out, ZOO, CPU, note=lambda text: None)
    return out


@pytest.mark.parametrize("step", [8, 12])
def test_a_replayed_step_is_the_same_bit_for_bit(run, step):
    found = replay(run, ZOO, step)
    assert found["same"] is True
    assert found["first_bad"] is None
    assert found["not_as_it_was"] == {}
    assert {cost["what"] for cost in found["costs"]} == {"generator", "discriminator"}
    assert found["gradients"].keys() == found["weights"].keys()
    assert all(norm > 0 for norm in found["weights"].values())


def test_replay_starts_from_the_checkpoint_before_or_from_the_beginning(run):
    assert [replay(run, ZOO, step)["played_from"] for step in (3, 9, 12)] == [0, 8, 8]
    assert replay(run, ZOO, 9)["same"] is None


def test_replay_writes_nothing(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    replay(run, ZOO, 9)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("step", [0, 13])
def test_a_step_that_was_not_played_cannot_be_replayed(run, step):
    with pytest.raises(UsageError, match=rf"--step {step}: .* has trained steps 1 to 12"):
        replay(run, ZOO, step)


# --- the watch ---


def scalars(accuracy: float, loss: float) -> dict[str, float]:
    return {"discriminator_accuracy": accuracy, "discriminator_loss": loss, "generator_loss": 1.0}


REALS = torch.randint(256, (64, 1, 8, 8), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("accuracy", "loss", "words"),
    [(1.0, 1e-4, "the discriminator wins"), (0.5, 1.386, "the discriminator may be dead")],
)
def test_a_sign_is_said_once_when_it_has_lasted(accuracy, loss, words):
    watch = HealthMonitor(REALS)
    said = [watch.tick(scalars(accuracy, loss)) for _ in range(3 * PATIENCE)]
    assert [index for index, text in enumerate(said) if text] == [PATIENCE - 1]
    assert words in said[PATIENCE - 1]
    watch.tick(scalars(0.7, 1.0))
    assert any(watch.tick(scalars(accuracy, loss)) for _ in range(PATIENCE))


def test_a_healthy_game_is_not_warned_of():
    watch = HealthMonitor(REALS)
    assert not any(watch.tick(scalars(0.5 + 0.04 * (index % 7), 1.3)) for index in range(100))
    assert not any(watch.grid(REALS) for _ in range(10))


def test_fakes_that_are_all_alike_are_seen():
    watch = HealthMonitor(REALS)
    alike = REALS[:1].repeat(16, 1, 1, 1).float()
    noise = torch.randn(alike.shape) * watch.spread * COLLAPSED / 2
    said = [watch.grid((alike + noise).clamp(0, 255).to(torch.uint8)) for _ in range(3)]
    assert said[0] is None
    assert "the fakes collapse" in said[1]
    assert said[2] is None


def test_the_warning_reaches_the_person(tmp_path):
    said: list[str] = []
    collapsed = recipe(8, "Constant", samples_every="2 steps")
    start(collapsed, tmp_path / "run", ZOO, CPU, note=said.append)
    assert [line for line in said if line.startswith("Warning at step 4: the fakes collapse")]
    assert Run.open(tmp_path / "run").diagnosis is None
