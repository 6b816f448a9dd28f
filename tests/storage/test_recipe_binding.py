"""recipe.json is bound to the training: what makes it another one is refused, and what differs is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import ZOO, ganzoo, tiny_recipe

from ganzoo import Amount, Choice, GanzooError
from ganzoo.results.load import load_generator
from ganzoo.storage import checkpoints
from ganzoo.storage.recipe_binding import _same_part
from ganzoo.training.replay import replay
from ganzoo.training.train import resume, start

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    start(tiny_recipe(checkpoint_every="4 steps"), out, ZOO, CPU, note=lambda text: None)
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def edit(run: Path, **fields: Any) -> None:
    recipe = json.loads((run / "recipe.json").read_text())
    for name, value in fields.items():
        if isinstance(value, dict):
            recipe[name]["options"].update(value)
        else:
            recipe[name] = value
    (run / "recipe.json").write_text(json.dumps(recipe))


ANOTHER_TRAINING = {
    "seed": {"seed": 1},
    "batch_size": {"batch_size": 17},
    "batch_order": {"batch_order": "stream"},
    "subset": {"subset": "first 100"},
    "ema_half_life": {"ema_half_life": 70},
    "turns": {"turns": "D,D,G"},
    "reuse_fakes": {"reuse_fakes": True},
    "generator_mode_for_discriminator": {"generator_mode_for_discriminator": "inference"},
    "losses": {"losses": ["hinge"]},
    "architecture": {"architecture": {"dropout": 0.4}},
    "generator_optimizer": {"generator_optimizer": {"lr": 0.5}},
    "discriminator_optimizer": {"discriminator_optimizer": {"lr": 0.5}},
    "dataset": {"dataset": "digits"},
}


@pytest.mark.parametrize("field", ANOTHER_TRAINING)
def test_another_training_is_refused_by_name(field: str, run: Path) -> None:
    edit(run, **ANOTHER_TRAINING[field])
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for command in (
        lambda: resume(run, ZOO, length=Amount(12, "steps"), note=lambda text: None),
        lambda: replay(run, ZOO, 6),
        lambda: load_generator(run, ZOO, CPU),
    ):
        words = rf"recipe.json is not the recipe that .* \({field} is .*, it was "
        with pytest.raises(GanzooError, match=words) as caught:
            command()
        assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "change",
    [{"grid": "3x3"}, {"tick_every": "3 steps"}, {"score_samples": 7}, {"observers": ["csv"]}, {"best_by": ""}],
    ids=str,
)
def test_what_touches_no_number_is_accepted_with_a_note(change: dict[str, Any], run: Path) -> None:
    plain, notes = Path(shutil.copytree(run, run.with_name("plain"))), list[str]()
    edit(run, **change)
    for path, said in ((plain, []), (run, notes)):
        resume(path, ZOO, length=Amount(12, "steps"), note=said.append)
        if path == plain:
            assert said == []
    words = [f"recipe.json has changed: {name} is " for name, value in change.items() if value]
    assert all(any(word in note for note in notes) for word in words), notes
    one, other = (checkpoints.load_latest(path / "checkpoints") for path in (plain, run))
    assert one is not None
    assert other is not None
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors if "meter/" not in name)


def test_a_changed_length_is_noted(run: Path) -> None:
    edit(run, length="12 steps")
    done = ganzoo("resume", run)
    assert done.exit_code == 0, done.output
    assert "recipe.json has changed: length is 12 steps, in its newest checkpoint it was 8 steps." in done.stderr


def test_a_file_of_code_may_move(run: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copy(tiny.__file__, tmp_path / "tiny.py"))
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["architecture"]["name"] = f"{elsewhere}:Tiny"
    (run / "recipe.json").write_text(json.dumps(recipe))
    notes: list[str] = []
    load_generator(run, ZOO, CPU, note=notes.append)
    assert len(notes) == 1
    assert "architecture is " in notes[0]


def test_a_recipe_edited_before_the_first_checkpoint_is_refused(run: Path) -> None:
    for folder in ("checkpoints", "generators"):
        shutil.rmtree(run / folder)
    edit(run, seed=5)
    with pytest.raises(GanzooError, match=r"seed is 5, it was 0"):
        resume(run, ZOO, note=lambda text: None)


def test_a_generator_under_another_name_is_refused(run: Path) -> None:
    generators = sorted((run / "generators").iterdir())
    generators[-1].write_bytes(generators[0].read_bytes())
    with pytest.raises(GanzooError, match="it is the generator at 64 images under another name"):
        load_generator(run, ZOO, CPU)


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        ("gz_one/net", "gz-one/net", True),
        ("GZ.One/net", "gz-one/net", True),
        ("net", "gz-one/net", True),
        ("gz-two/net", "gz-one/net", False),
        ("gz-one/net", "gz-one/other", False),
    ],
)
def test_a_distribution_is_the_same_however_its_name_is_written(then: str, now: str, same: bool) -> None:
    assert _same_part("architecture", Choice(then), Choice(now)) is same
