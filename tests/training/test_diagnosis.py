"""The diagnosis of a training that diverged, the replay of its steps, and the warnings of the health monitor."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import ZOO, tiny_recipe

from ganzoo import Choice, GanzooError, Loss, UsageError
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import is_finite
from ganzoo.training import health
from ganzoo.training.diagnosis import divergence
from ganzoo.training.health import COLLAPSED, COLLAPSED_STEPS, PATIENCE, HealthMonitor
from ganzoo.training.replay import replay
from ganzoo.training.train import start

CPU = torch.device("cpu")
SOURING = f"{tiny.__file__}:Souring"


def diverge(out: Path, after: int, **changes: Any) -> dict[str, Any]:
    losses = ["nonsaturating", f"{SOURING}:after={after}"]
    with pytest.raises(GanzooError, match="The training has diverged"):
        start(tiny_recipe(length="400 steps", losses=losses, **changes), out, ZOO, CPU, note=lambda text: None)
    return json.loads((out / "diagnosis.json").read_text())


@pytest.mark.parametrize("step", [1, 2, 63, 90])
def test_divergence_is_found_within_fifty_steps_and_names_its_step_and_cause(tmp_path, step):
    found = diverge(tmp_path / "run", 16 * (step - 1), tick_every="1000 steps", checkpoint_every="7 steps")
    assert found["step"] == step
    assert found["images"] == 16 * step
    assert found["noticed_at_step"] - step < 50
    bad = found["first_bad"]
    assert (bad["kind"], bad["name"], bad["value"]) == ("cost", "Souring (loss 2)", "nan")
    assert found["replay"] == f"ganzoo replay {shlex.quote(str(tmp_path / 'run'))} --step {step}"
    saved = checkpoints.load_latest(tmp_path / "run" / "checkpoints")
    if saved is None:
        assert found["last_good_checkpoint"] is None
        return
    assert found["last_good_checkpoint"].endswith(f"{saved.meta['images']:09d}")
    assert saved.meta["step"] < step
    assert is_finite(saved.tensors)


def test_the_bad_step_can_be_replayed(tmp_path):
    found = diverge(tmp_path / "run", 16 * 9, checkpoint_every="4 steps")
    again = replay(tmp_path / "run", ZOO, found["step"])
    assert again["played_from"] == 8
    assert again["first_bad"] == found["first_bad"]
    assert replay(tmp_path / "run", ZOO, found["step"] - 1)["first_bad"] is None
    assert "anomaly" in replay(tmp_path / "run", ZOO, found["step"], anomaly=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replayed") / "run"
    start(
        tiny_recipe(length="12 steps", checkpoint_every="4 steps", ema_half_life=50),
        out,
        ZOO,
        CPU,
        note=lambda text: None,
    )
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


def test_a_run_without_a_step_has_none_to_replay(run, tmp_path):
    out = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(out / "checkpoints")
    (out / "stats.jsonl").unlink()
    with pytest.raises(UsageError, match=r"--step 1: .* has trained no step yet"):
        replay(out, ZOO, 1)


def test_the_message_of_a_divergence_names_a_checkpoint_only_where_there_is_one(tmp_path):
    found = {"step": 3, "first_bad": {"kind": "cost", "name": "R1 (loss 2)", "what": "discriminator", "value": "nan"}}
    without, kept = (divergence(found, 4, tmp_path, newest)[1] for newest in (None, tmp_path / "000000032"))
    assert "loss of R1 (loss 2) (discriminator) is nan in step 3. No checkpoint was saved before it. See " in without
    assert "in step 3. The last good checkpoint is kept. See " in kept


def test_replay_starts_from_the_checkpoint_before_or_from_the_beginning(run):
    assert [replay(run, ZOO, step)["played_from"] for step in (3, 9, 12)] == [0, 8, 8]
    assert replay(run, ZOO, 9)["same"] is None


def test_replay_writes_nothing(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    replay(run, ZOO, 9)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("step", [0, 13])
def test_a_step_that_was_not_trained_cannot_be_replayed(run, step):
    with pytest.raises(UsageError, match=rf"--step {step}: .* has trained steps 1 to 12"):
        replay(run, ZOO, step)


# --- the health monitor ---


def scalars(accuracy: float, loss: float) -> dict[str, float]:
    return {"discriminator_accuracy": accuracy, "discriminator_loss": loss, "generator_loss": 1.0}


REALS = torch.randint(256, (64, 1, 8, 8), dtype=torch.uint8)


def losses(*names: str) -> list[Loss]:
    return [ZOO.build("losses", Choice.parse(name)) for name in names]


GUESSING = {"nonsaturating": 2 * math.log(2), "minimax": 2 * math.log(2), "hinge": 2.0}


@pytest.mark.parametrize(
    ("accuracy", "loss", "words"),
    [(1.0, 1e-4, "the discriminator wins"), (0.5, 1.386, "the discriminator may be dead")],
)
def test_a_warning_comes_once_after_its_sign_has_lasted(accuracy, loss, words):
    monitor = HealthMonitor(REALS, losses("nonsaturating"))
    warnings = [monitor.tick(scalars(accuracy, loss)) for _ in range(3 * PATIENCE)]
    assert [index for index, text in enumerate(warnings) if text] == [PATIENCE - 1]
    assert words in warnings[PATIENCE - 1]
    monitor.tick(scalars(0.7, 1.0))
    assert any(monitor.tick(scalars(accuracy, loss)) for _ in range(PATIENCE))


def test_a_healthy_training_gets_no_warning():
    monitor = HealthMonitor(REALS, losses("nonsaturating"))
    assert not any(monitor.tick(scalars(0.5 + 0.04 * (index % 7), 1.3)) for index in range(100))
    assert not any(monitor.tick(scalars(0.5, 1.2 + 0.1 * (index % 3))) for index in range(100))  # it does learn
    assert not any(monitor.fakes(1000 * index, REALS) for index in range(10))


@pytest.mark.parametrize(
    "names",
    [
        ["wasserstein"],
        ["wasserstein", "gradient-penalty"],
        ["relativistic", "r1", "r2"],
        ["boundary-equilibrium"],
        ["least-squares"],
        [],
    ],
)
def test_the_accuracy_at_logit_0_is_not_judged_where_it_means_nothing(names):
    monitor = HealthMonitor(REALS, losses(*names))
    assert monitor.guessing_loss is None
    for accuracy, loss in [(0.5, 0.0), (0.5, -0.9), (0.5, 0.5), (0.5, 0.6931), (1.0, 1e-5)]:
        assert not any(monitor.tick(scalars(accuracy, loss)) for _ in range(100))


@pytest.mark.parametrize("name", ["nonsaturating", "minimax", "hinge"])
def test_where_the_accuracy_is_judged_a_dead_discriminator_gets_its_warning(name):
    monitor = HealthMonitor(REALS, losses(name, "r1"))
    assert monitor.guessing_loss == pytest.approx(GUESSING[name])
    assert any(monitor.tick(scalars(0.5, GUESSING[name])) for _ in range(PATIENCE))


def test_the_losses_of_the_run_are_not_changed():
    ours = losses("boundary-equilibrium", "dragan")
    before = [{name: tensor.clone() for name, tensor in loss.state_dict().items()} for loss in ours]
    state = torch.get_rng_state()
    HealthMonitor(REALS, ours)
    assert torch.equal(torch.get_rng_state(), state)
    for loss, then in zip(ours, before, strict=True):
        assert all(torch.equal(loss.state_dict()[name], tensor) for name, tensor in then.items())


def all_alike(monitor: HealthMonitor, count: int = 64) -> torch.Tensor:
    alike = REALS[:1].repeat(count, 1, 1, 1).float()
    noise = torch.randn(alike.shape) * monitor.spread * COLLAPSED / 2
    return (alike + noise).clamp(0, 255).to(torch.uint8)


def test_fakes_that_stay_alike_get_a_warning():
    monitor = HealthMonitor(REALS)
    warnings = [monitor.fakes(step, all_alike(monitor)) for step in range(0, 1001, 100)]
    assert [100 * index for index, text in enumerate(warnings) if text] == [COLLAPSED_STEPS]
    assert "the fakes collapse" in warnings[5]


def test_fakes_that_are_alike_for_a_while_get_none():
    monitor = HealthMonitor(REALS)
    for first in range(0, 5000, 500):
        assert not any(monitor.fakes(first + step, all_alike(monitor)) for step in (0, 1, 2, 100, 400))
        assert monitor.fakes(first + 450, REALS) is None
    # a few checks that lie far apart
    assert not any(monitor.fakes(step, all_alike(monitor)) for step in (10_000, 20_000))


def test_few_images_are_not_compared():
    monitor = HealthMonitor(REALS)
    for count in (0, 1, 4, 15):
        assert not any(monitor.fakes(step, all_alike(monitor, count)) for step in range(0, 5000, 100))
    few = HealthMonitor(REALS[:15])
    assert not any(few.fakes(step, all_alike(monitor)) for step in range(0, 5000, 100))


@pytest.mark.parametrize("grid", ["1x1", "2x8"])
def test_the_warning_is_noted(tmp_path, monkeypatch, grid):
    monkeypatch.setattr(health, "COLLAPSED_STEPS", 4)
    notes: list[str] = []
    collapsed = tiny_recipe("Constant", length="8 steps", samples_every="2 steps", grid=grid)
    start(collapsed, tmp_path / "run", ZOO, CPU, note=notes.append)
    assert [line for line in notes if line.startswith("Warning at step 6: the fakes collapse")]
    assert Run.open(tmp_path / "run").diagnosis is None


def test_an_ema_that_lags_behind_is_no_collapse(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "COLLAPSED_STEPS", 4)
    notes: list[str] = []
    lagging = tiny_recipe(length="8 steps", samples_every="1 steps", grid="1x1", ema_half_life=10**9)
    start(lagging, tmp_path / "run", ZOO, CPU, note=notes.append)
    assert not [line for line in notes if "collapse" in line]
