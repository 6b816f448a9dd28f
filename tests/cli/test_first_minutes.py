"""The first minutes of a new user: what is trained on what, advice, and no wait in silence."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ZOO, ganzoo
from PIL import Image
from terminal import ganzoo_in_terminal

from ganzoo import plan
from ganzoo.api.displays import ConsoleProgress
from ganzoo.api.progress import Waiting
from ganzoo.cli.grid_console import GridConsole
from ganzoo.cli.output import wrapped
from ganzoo.contract.choice import Choice
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.registry import recipes
from ganzoo.training import heartbeat, introduction, loop
from ganzoo.training.build import build_setup
from ganzoo_plugins.extractors import domain

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
    said = re.search(
        r"Training dcgan on image-folder: (\d+) training images \((\d+) more are kept for tests\), 3x", text
    )
    assert said is not None
    assert int(said[1]) + int(said[2]) == 40
    assert re.search(r"Generator [\d,]+ parameters, discriminator [\d,]+; device .*; 2 steps of 32 images", text)
    assert "are few for this batch, so few that the discriminator learns them by heart: " in text
    assert "add --batch-size 8 --augmentation diffaugment, or train with --recipe few-images." in text
    resumed = ganzoo("resume", out, "--steps", 3)
    assert resumed.exit_code == 0, resumed.output[-3000:]
    assert "; 3 steps of 32 images" in resumed.stderr
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
    assert Choice.parse("digits").name == "digits"


def test_a_folder_that_is_not_there_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("./pictures", "./pictures:size=32"):
        missing = ganzoo("train", "dcgan", given, "--dry-run")
        assert missing.exit_code == 2
        assert "There is no folder ./pictures: give a folder of pictures" in missing.output
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8), np.uint8))
    array = ganzoo("train", "dcgan", "./a.npy", "--dry-run")
    assert array.exit_code == 2
    assert "./a.npy is a file, not a folder of pictures: write npy:path=./a.npy." in array.output


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
    assert f"score: ganzoo evaluate {shlex.quote(str(out))}" in trained.output
    scored = ganzoo("evaluate", out, "--samples", 40)  # fewer, to be quick
    assert scored.exit_code == 0, scored.output
    assert "| fid-domain |" in scored.output
    assert "no labels, so the features of fid-domain are of a network that is not trained" in scored.stderr
    more = ganzoo("evaluate", out, "--samples", 40, "-e", "precision-recall", "-e", "sliced-wasserstein", "--json")
    assert more.exit_code == 0, more.output
    refused = ganzoo("evaluate", out, "--samples", 40, "-e", "mode-coverage")
    assert refused.exit_code == 2
    assert "needs the class of each image" in refused.output


def introduced(
    dataset: str, images: int, architecture: str = "dcgan-tutorial", recipe: str | None = None, **changes: Any
) -> str:
    """What is printed before the first step of a training on the first images of a dataset; nothing is trained."""
    fields = {"subset": f"first {images}", **changes}
    chosen = recipes.plan(ZOO, Choice(architecture), Choice.parse(dataset), recipe, fields)
    return "\n".join(introduction.introduction(build_setup(chosen, ZOO, torch.device("cpu")), chosen.length))


def test_the_recipe_for_few_images_is_not_advised_to_itself() -> None:
    text = introduced("digits", 55, "dcgan", "few-images")
    assert "Advice: 55 images are few for this batch: add --batch-size 8." in text
    assert "--recipe few-images" not in text


@pytest.mark.parametrize(
    ("images", "batch", "advised"),
    [
        (270, 256, "--batch-size 32 --augmentation diffaugment --steps 5000."),
        (270, 32, "--augmentation diffaugment --steps 5000."),
        (1400, 512, "--batch-size 32."),
        (40, 16, "--batch-size 8 --augmentation diffaugment --steps 5000."),
        (10, 8, "--augmentation diffaugment --steps 5000."),
        (1400, 64, ""),
    ],
)
def test_advice_where_it_is_plain(images: int, batch: int, advised: str) -> None:
    text = introduced("digits:size=28", images, batch_size=batch, length="1 epoch")
    assert text.partition(": add ")[2] == advised


def test_who_follows_the_advice_gets_none() -> None:
    followed = {"batch_size": 32, "augmentations": ["diffaugment"], "length": "5000 steps"}
    assert "Advice" not in introduced("digits:size=28", 270, **followed)
    assert "Advice" not in introduced("digits:size=32", 270, "dcgan", "few-images")


def test_the_recipe_for_few_images_shows_a_grid_early() -> None:
    recipe = recipes.plan(ZOO, Choice("dcgan"), Choice("digits"), "few-images")
    assert (recipe.batch_size, str(recipe.samples_every)) == (32, "100 steps")
    assert [choice.name.rpartition("/")[2] for choice in recipe.augmentations] == ["diffaugment"]
    assert "few-images" in ganzoo("show", "dcgan").stdout


def test_the_live_line_fits_a_narrow_terminal(tmp_path: Path) -> None:
    train = ("train", "dcgan-tutorial", "digits:size=32", *SMALL, "--tick-every", "5 steps", "--batch-size", 8)
    status, text = ganzoo_in_terminal(*train, "--steps", 60, "--out", tmp_path / "run", columns=60)
    assert status == 0, text
    lines = [line for line in re.split(r"[\r\n]+", text) if "━" in line]
    assert any(re.match(r"step \d+ .* \d+% ", line) for line in lines), lines
    assert all("…" not in line and len(line) <= 60 for line in lines), lines


def test_a_text_is_wrapped_at_words() -> None:
    prose = (
        "A sentence of an author whose lines are as full as they can be, and they end at words of\nsome length. Next."
    )
    text = f"{prose}\n\nshort: one\nlist: two, which has many more words than fit into one of the lines\n  indented"
    lines = wrapped(text, 40, "> ").splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert " ".join(lines[:4]).replace("> ", "").startswith("A sentence of an author whose lines are as full as")
    assert lines[lines.index("short: one") + 1].startswith("list: two, which")
    assert lines[-1] == "  indented"
    status, shown = ganzoo_in_terminal("show", "dcgan", columns=60)
    assert status == 0
    assert all(len(line) <= 60 for line in shown.partition("  option")[0].splitlines())


def test_the_training_of_an_extractor_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(domain._EpochsDone, "FIRST", 0.0)
    shown = domain._EpochsDone(10)
    for epoch in range(1, 11):
        shown(epoch, None)
    assert re.fullmatch(r"Domain extractor: 1 of 10 epochs, about \d+ s left\.\n", capsys.readouterr().err)


def test_a_trial_of_a_grid_says_how_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipes.plan(ZOO, Choice("dcgan"), Choice("digits"), None, {"length": "100 steps"})
    trial: Any = SimpleNamespace(name="a", configuration=("dcgan", "digits"), recipe=recipe)
    grid = GridConsole([trial], tmp_path)
    monkeypatch.setattr(grid.folder, "progress", lambda trial: None)
    assert re.fullmatch(r"seed 0: starting, 0:0\d", grid._progress(trial))
    line = {"step": 25, "images": 25, "epoch": 1.0, "seconds": 20.0, "images_per_second": 9.0}
    monkeypatch.setattr(grid.folder, "progress", lambda trial: line)
    assert grid._progress(trial) == "seed 0: 25%, 9 images/s, about 1:00 left"
