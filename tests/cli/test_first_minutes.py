"""The first minutes of a new user: what is trained on what, advice, and no wait in silence."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ganzoo
from PIL import Image

from ganzoo import plan
from ganzoo.api.progress import ConsoleProgress, Waiting
from ganzoo.contract.choice import Choice
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.training import heartbeat, loop

SMALL = ("-o", "width=4", "--samples-every", "1000 steps", "--tick-every", "1000 steps")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my photos") / "photos"
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    for number in range(40):
        pixels = torch.randint(256, (16, 16, 3), dtype=torch.uint8, generator=draw)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return folder


def test_a_folder_is_a_dataset(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    monkeypatch.chdir(photos.parent)
    trained = ganzoo("train", "dcgan", "./photos", *SMALL, "--steps", 2, "--batch-size", 32, "--out", out)
    assert trained.exit_code == 0, trained.output[-3000:]
    text = trained.stderr
    assert re.search(r"Training dcgan on image-folder: \d+ training images, 3x\d+x\d+\.", text)
    assert re.search(
        r"Generator [\d,]+ parameters, discriminator [\d,]+; device .*; 2 steps: 2 steps of 32 images", text
    )
    assert "are few for batches of 32; take --batch-size" in text
    assert "add --augmentation diffaugment" in text
    quiet = ganzoo("train", "dcgan", "./photos", *SMALL, "--steps", 2, "--out", tmp_path / "quiet", "-q")
    assert quiet.exit_code == 0
    assert "Advice" not in quiet.output


@pytest.mark.parametrize("text", ["./photos", "photos/", "{absolute}"])
def test_how_a_folder_may_be_written(photos: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    given = text.format(absolute=photos)
    planned = ganzoo("train", "dcgan", given, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert str(photos) in planned.stdout


def test_a_folder_with_the_name_of_a_dataset_is_not_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert 'dataset = { name = "digits"' in ganzoo("train", "dcgan", "digits", "--dry-run").stdout
    missing = ganzoo("train", "dcgan", "./pictures", "--dry-run")
    assert missing.exit_code == 2
    assert Choice.parse("digits").name == "digits"


def test_a_folder_may_have_options_and_is_a_dataset_in_python_too(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    planned = ganzoo("train", "dcgan", "./photos:size=32,channels=1", "--dry-run")
    assert planned.exit_code == 0, planned.output
    dataset = plan("dcgan", "./photos:size=32").dataset
    assert dataset is not None
    assert (dataset.name.rpartition("/")[2], dataset.options["size"]) == ("image-folder", 32)


def test_a_long_wait_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.api.progress._FIRST_LINE", 0.05)
    lines: list[str] = []
    with Waiting("Scoring runs/a", lines.append) as waiting:
        waiting(0, 1000)
        time.sleep(0.01)
        waiting(500, 1000)
        time.sleep(0.3)
    assert lines[0].startswith("Scoring runs/a: 0:00, 500 of 1,000 images, about 0:0")
    with Waiting("short", lines.append):
        pass
    assert len(lines) == 1


def test_a_training_is_not_silent_before_its_first_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_FIRST", 0.0)
    monkeypatch.setattr(heartbeat, "_INTERVAL", 0.0)
    seen: list[TrainingProgress] = []
    shown = ConsoleProgress.on_heartbeat

    def on_heartbeat(self: ConsoleProgress, progress: TrainingProgress, doing: str = "") -> None:
        seen.append(progress)
        shown(self, progress, doing)

    monkeypatch.setattr(ConsoleProgress, "on_heartbeat", on_heartbeat)
    out = tmp_path / "run"
    trained = ganzoo("train", "dcgan-tutorial", "digits:size=32", *SMALL, "--steps", 4, "--batch-size", 8, "--out", out)
    assert trained.exit_code == 0, trained.output
    assert sorted({progress.step for progress in seen} | {0}) == [0, 1, 2, 3, 4]
    assert re.search(rf"{re.escape(str(out))}: step 1  25%", trained.stderr)


def test_a_long_first_step_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_FIRST", 0.1)
    monkeypatch.setattr(heartbeat, "_LONG_STEP", 0.1)
    step = loop.run_step

    def slow(*arguments: Any) -> None:
        time.sleep(1.5)
        step(*arguments)

    monkeypatch.setattr(loop, "run_step", slow)
    out = tmp_path / "run"
    trained = ganzoo("train", "dcgan-tutorial", "digits:size=32", *SMALL, "--steps", 1, "--batch-size", 8, "--out", out)
    assert trained.exit_code == 0, trained.output
    assert re.search(r"run: step 0  \d s since step 0  0%", trained.stderr)


def test_the_commands_that_a_training_recommends_work_without_labels(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained = ganzoo("train", "dcgan", photos, *SMALL, "--steps", 2, "--batch-size", 8, "--out", out)
    assert f"score: ganzoo evaluate {out}" in trained.output
    scored = ganzoo("evaluate", out, "--samples", 40)  # fewer, to be quick
    assert scored.exit_code == 0, scored.output
    assert "| sliced-wasserstein |" in scored.output
    assert "no labels, so they are scored by sliced-wasserstein and not by fid-domain" in scored.stderr
    refused = ganzoo("evaluate", out, "--samples", 40, "-e", "fid-domain")
    assert refused.exit_code == 1
    assert "(-e sliced-wasserstein)" in refused.output
