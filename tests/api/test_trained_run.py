"""The Python API does what the command line does: the same recipes, images, scores and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ganzoo as command
from PIL import Image

import ganzoo
from ganzoo.storage.tensors import tensors_from_bytes

SMALL: dict[str, Any] = {"options": {"width": 4}, "batch_size": 8, "tick_every": 2, "samples_every": 2, "quiet": True}
FLAGS = ["-o", "width=4", "--batch-size", "8", "--tick-every", "2", "--samples-every", "2", "-q"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(folder: Path) -> ganzoo.TrainedRun:
    """A run of four steps, trained by the API."""
    scored = {"evaluator": "fid-domain", "samples": 16, "score_every": 2}
    return ganzoo.train("dcgan-tutorial", "digits:size=8", steps=4, out=folder / "api", **scored, **SMALL)


@pytest.fixture(scope="module")
def same(folder: Path, run: ganzoo.TrainedRun) -> Path:
    """The same run, trained by the command line."""
    out = folder / "cli"
    scored = ["--evaluator", "fid-domain", "--samples", "16", "--score-every", "2"]
    done = command("train", "dcgan-tutorial", "digits:size=8", "--steps", "4", *scored, *FLAGS, "--out", out)
    assert done.exit_code == 0, done.output
    return out


def _png(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


# --- the same as the command line -------------------------------------------------------------------------------------


def test_a_training_is_that_of_the_command_line(run: ganzoo.TrainedRun, same: Path) -> None:
    assert json.loads((run.path / "recipe.json").read_text()) == json.loads((same / "recipe.json").read_text())
    name = "generators/000000032.safetensors"
    assert (run.path / name).read_bytes() == (same / name).read_bytes()
    timings = ("seconds", "images_per_second")
    mine, theirs = (
        [{key: value for key, value in line.items() if key not in timings} for line in lines]
        for lines in (run.stats, ganzoo.load(same).stats)
    )
    assert mine == theirs
    assert [line["value"] for line in run.scores] == [line["value"] for line in ganzoo.load(same).scores]


def test_samples_are_those_of_the_command_line(run: ganzoo.TrainedRun, tmp_path: Path) -> None:
    for count, seed, at in ((16, 0, None), (7, 3, None), (4, 0, 16), (4, 0, "best")):
        grid = run.sample(count, seed=seed, at=at)
        assert grid.tensor.dtype == torch.uint8
        assert grid.tensor.shape == (count, 1, 8, 8)
        which = [] if at is None else ["--at", at]
        for suffix in (".png", ".npy"):
            mine, theirs = tmp_path / f"mine{suffix}", tmp_path / f"theirs{suffix}"
            done = command("sample", run.path, "-n", count, "--seed", seed, *which, "-o", theirs)
            assert done.exit_code == 0, done.output
            assert grid.save(mine) == mine
            assert mine.read_bytes() == theirs.read_bytes()
    assert ganzoo.sample(run.path, 16).tensor.equal(run.sample(16).tensor)
    assert ganzoo.sample(run, grid="2x8").columns == 8
    assert run.sample(grid=(2, 8)).tensor.equal(run.sample(16).tensor)
    assert len(run.sample()) == 16


def test_a_class_of_a_conditional_run(folder: Path, tmp_path: Path) -> None:
    run = ganzoo.train("cgan", "digits:size=8", steps=1, batch_size=8, out=folder / "cgan", quiet=True)
    one = run.sample(8, classes=3)
    done = command("sample", run.path, "-n", "8", "--class", "3", "-o", tmp_path / "three.npy")
    assert done.exit_code == 0, done.output
    assert np.array_equal(one.tensor.numpy(), np.load(tmp_path / "three.npy"))
    assert one.row_labels == ["3"] * 3
    rows = run.sample(grid="4x2", classes=[5, 7])
    assert rows.row_labels == ["5", "7", "5", "7"]
    assert run.sample(grid="4x2").row_labels == ["0", "1", "2", "3"]
    with pytest.raises(ganzoo.UsageError, match="the classes 0 to 9"):
        run.sample(classes=10)


def test_a_score_is_that_of_the_command_line(run: ganzoo.TrainedRun, same: Path) -> None:
    (mine,) = run.evaluate("fid-domain", samples=20, seed=1)
    printed = command("evaluate", same, "-e", "fid-domain", "--samples", "20", "--seed", "1", "--json")
    (theirs,) = json.loads(printed.stdout)["scores"]
    assert mine["value"] == theirs["value"]
    assert mine["card"]["digest"] == theirs["card"]["digest"]
    assert run.scores[-1] == mine
    both = ganzoo.evaluate(run, ["fid-domain", "sliced-wasserstein"], samples=20, at=16)
    assert {line["score"] for line in both} == {"fid-domain", "sliced-wasserstein"}
    assert [line["score"] for line in ganzoo.evaluate(run.path, samples=20)] == ["fid-domain"]


def test_resume_is_that_of_the_command_line(folder: Path, same: Path) -> None:
    mine = ganzoo.train("dcgan-tutorial", "digits:size=8", steps=4, out=folder / "longer", **SMALL)
    assert mine.resume(steps=6, quiet=True) is mine
    assert (mine.progress.step, mine.recipe.length) == (6, ganzoo.Amount(6, "steps"))
    assert command("resume", same, "--steps", "6", "-q").exit_code == 0
    name = "generators/000000048.safetensors"
    weights, others = (tensors_from_bytes((path / name).read_bytes())[0] for path in (mine.path, same))
    assert all(torch.equal(weights[key], others[key]) for key in {*weights, *others})
    assert ganzoo.resume(mine.path, steps=7, quiet=True).progress.step == 7
    assert ganzoo.resume(mine, steps=8, quiet=True).progress.step == 8
    with pytest.raises(ganzoo.UsageError, match="already"):
        mine.resume()


# --- what a run has to show -------------------------------------------------------------------------------------------


def test_what_is_on_disk_is_on_the_run(run: ganzoo.TrainedRun) -> None:
    assert run.recipe.batch_size == 8
    assert run.environment["images"] == {"channels": 1, "height": 8, "width": 8, "classes": 10}
    assert (run.progress.step, run.progress.images) == (4, 32)
    assert [path.name for path in run.generators] == [path.name for path in sorted((run.path / "generators").iterdir())]
    assert run.checkpoints
    assert run.checkpoints[-1].name == "000000032"
    assert run.best is not None
    assert run.best["score"] == "fid-domain"
    assert "4 steps" in repr(run)
    assert "dcgan-tutorial" in run._repr_html_()
    assert [line["step"] for line in run.stats] == [2, 4]


def test_the_generator_is_ready(run: ganzoo.TrainedRun) -> None:
    generator = run.generator
    assert isinstance(generator, torch.nn.Module)
    assert not generator.training
    with torch.no_grad():
        images = generator(run.latents(16), torch.zeros(16, dtype=torch.int64))
    assert ganzoo.to_uint8(images, (-1.0, 1.0)).equal(run.sample(16).tensor)
    assert not images.requires_grad
    first, last = run.load_generator(16).state_dict(), generator.state_dict()
    assert not all(first[name].equal(last[name]) for name in first)


def test_a_grid_shows_itself(run: ganzoo.TrainedRun, tmp_path: Path) -> None:
    grid = run.sample(16)
    assert grid._repr_png_().startswith(b"\x89PNG")
    assert repr(grid) == "<ImageGrid of 16 images 1x8x8>"
    assert np.array_equal(_png(grid.save(str(tmp_path / "a.png"))), np.asarray(grid.image))
    for wrong, words in (("a.jpg", ".png, .npy or .npz"), ("nowhere/a.png", "no directory")):
        with pytest.raises(ganzoo.UsageError, match=words):
            grid.save(tmp_path / wrong)


def test_plots_need_no_pyplot(run: ganzoo.TrainedRun) -> None:
    code = (
        "import sys, ganzoo\n"
        "run = ganzoo.load(sys.argv[1])\n"
        "for plot in (run.stats.plot(), run.scores.plot(), type(run.scores)().plot(), type(run.stats)().plot()):\n"
        "    assert plot._repr_png_().startswith(b'\\x89PNG')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "from matplotlib.figure import Figure\n"
        "assert isinstance(run.stats.plot(), Figure)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True, timeout=120)
    losses, accuracy = run.stats.plot().axes
    assert [line.get_label() for line in losses.lines] == ["discriminator", "generator"]
    assert list(losses.lines[0].get_xdata()) == [16, 32]
    assert accuracy.get_title(loc="left") == "discriminator accuracy"
    (scores,) = type(run.scores)(line for line in run.scores if line["score"] == "fid-domain").plot().axes
    assert list(scores.lines[0].get_xdata()) == [16, 32]


def test_lists_show_themselves_as_tables(run: ganzoo.TrainedRun) -> None:
    assert isinstance(run.stats, list)
    assert "discriminator_loss" in run.stats._repr_html_()
    assert run.scores[0]["card"]["digest"] in run.scores._repr_html_()
    assert "<table>" in ganzoo.list("losses")._repr_html_()


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_plan_is_dry_run() -> None:
    flags = ["-o", "width=8", "-o", "dataset.size=32", "--loss", "hinge", "--loss", "r1:gamma=1", "--epochs", "3"]
    flags += ["--seed", "7", "--grid", "2x4", "--generator-optimizer", "adam:lr=0.5", "--ema-half-life", "100"]
    flags += ["--batch-order", "stream", "--discriminator-optimizer", "shared", "--score-every", "100 steps"]
    printed = command("train", "dcgan-tutorial", "digits", *flags, "--dry-run", "--json")
    recipe = ganzoo.plan(
        "dcgan-tutorial",
        "digits",
        options={"width": 8, "dataset.size": 32},
        loss=["hinge", ganzoo.Choice("r1", {"gamma": 1})],
        epochs=3,
        seed=np.int64(7),
        grid=(2, 4),
        generator_optimizer="adam:lr=0.5",
        discriminator_optimizer="shared",
        ema_half_life=100,
        batch_order="stream",
        score_every="100 steps",
    )
    assert recipe.to_dict() == json.loads(printed.stdout)["recipe"]


def test_a_recipe_starts_a_run(run: ganzoo.TrainedRun, tmp_path: Path) -> None:
    assert ganzoo.plan(recipe=run.recipe) == run.recipe
    changed = ganzoo.plan(recipe=run.recipe, seed=5, options={"width": 8})
    assert changed == run.recipe.merged({"seed": 5, "architecture": changed.architecture})
    assert changed.architecture is not None
    assert changed.architecture.options["width"] == 8
    file = tmp_path / "recipe.toml"
    file.write_text(run.recipe.to_toml())
    assert ganzoo.plan(recipe=ganzoo.Recipe.from_dict(ganzoo.Recipe.read_toml(file))) == run.recipe
    assert ganzoo.plan("dcgan-tutorial", "digits", recipe=file) == run.recipe
    assert ganzoo.plan("dcgan-tutorial", "mnist", recipe="homework-mnist").length == ganzoo.Amount(75, "epochs")
    with pytest.raises(ganzoo.UsageError, match="Name the dataset"):
        ganzoo.plan("dcgan-tutorial")


def test_the_keywords_of_train_are_the_options_of_the_command() -> None:
    import inspect

    from ganzoo.cli.train import resume, train

    for function, click_command in ((ganzoo.train, train), (ganzoo.resume, resume)):
        options = {
            max(option.opts, key=len).removeprefix("--").replace("-", "_")
            for option in click_command.params
            if option.param_type_name == "option" and not option.hidden
        }
        options = options - {"dry_run", "json", "no_pictures", "option"} | (
            {"options"} if function is ganzoo.train else set()
        )
        if function is ganzoo.train:
            options = options - {"from"} | {"start_from"}  # a word of Python
        options |= {"inception_weights"}  # resume reads it from the environment
        parameters = inspect.signature(function).parameters
        assert {name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY} == options


# --- wrong requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "flags"),
    [
        ({"epochs": 3, "steps": 4}, ["--epochs", "3", "--steps", "4"]),
        ({"epochs": 0}, ["--epochs", "0"]),
        ({"epochs": "many"}, ["--epochs", "many"]),
        ({"turns": "D"}, ["--turns", "D"]),
        ({"loss": "hing"}, ["--loss", "hing"]),
        ({"options": {"widht": 3}}, ["-o", "widht=3"]),
        ({"options": {"loss.x": 1}}, ["-o", "loss.x=1"]),
        ({"recipe": "homework"}, ["--recipe", "homework"]),
        ({"recipe": "nowhere.toml"}, ["--recipe", "nowhere.toml"]),
        ({"device": "gpu", "quiet": True}, ["--device", "gpu", "-q"]),
        ({"subset": "some"}, ["--subset", "some"]),
    ],
)
def test_a_wrong_request_has_the_sentence_of_the_command_line(
    keywords: dict[str, Any], flags: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ganzoo.UsageError) as refused:
        ganzoo.train("dcgan-tutorial", "digits", out=out, **keywords)
    printed = command("train", "dcgan-tutorial", "digits", *flags, "--out", out)
    assert printed.exit_code == 2
    assert printed.stderr.strip() == f"Error: {refused.value}"
    assert not out.exists()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"precision": "fp8"}, "precision='fp8' is not one of: fp32, bf16"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"samples": 1}, "at least 2 images"),
        ({"batch_size": "8"}, "must be a whole number"),
        ({"loss": []}, "at least one loss"),
        ({"data_dir": "nowhere"}, "no directory"),
        ({"inception_weights": "nowhere"}, "no file"),
        ({"protocol": "fas"}, "fast"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(keywords: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ganzoo.UsageError, match=words):
        ganzoo.train("dcgan-tutorial", "digits", out=tmp_path / "run", **keywords)
    assert not (tmp_path / "run").exists()


def test_an_unknown_keyword_has_near_names(run: ganzoo.TrainedRun) -> None:
    # a UsageError, as for every other wrong request
    for call, words in (
        (lambda: ganzoo.train("dcgan-tutorial", "digits", epoch=3), r"train\(\) has no keyword 'epoch'.*'epochs'"),
        (lambda: ganzoo.plan("dcgan-tutorial", "digits", losses="hinge"), "Did you mean 'loss'"),
        (lambda: run.resume(epoch=3), r"TrainedRun.resume\(\) has no keyword 'epoch'.*'epochs'"),
        (lambda: ganzoo.evaluate(run, sample=3), "Did you mean 'samples'"),
        (lambda: ganzoo.sample(run, clases=3), "Did you mean 'classes'"),
        (lambda: ganzoo.benchmark(["dcgan-tutorial"], ["digits"], epoch=3), "Did you mean 'epochs'"),
        (lambda: ganzoo.speedrun("digits", "fid-domain<=3", epoch=3), "Did you mean 'epochs'"),
    ):
        with pytest.raises(ganzoo.UsageError, match=words):
            call()


def test_a_run_that_is_not_there(run: ganzoo.TrainedRun, tmp_path: Path) -> None:
    for call in (ganzoo.load, ganzoo.resume, ganzoo.evaluate, ganzoo.sample):
        with pytest.raises(ganzoo.UsageError, match="holds no run"):
            call(tmp_path / "nowhere")
    with pytest.raises(ganzoo.GanzooError, match="it has them at"):
        run.sample(at=5)
    with pytest.raises(ganzoo.UsageError, match="not conditional"):
        run.sample(classes=3)
    with pytest.raises(ganzoo.UsageError, match="at least 1"):
        run.sample(0)
    with pytest.raises(ganzoo.UsageError, match="holds a run already"):
        ganzoo.train("dcgan-tutorial", "digits:size=8", out=run.path, **SMALL)


@pytest.mark.parametrize("call", [ganzoo.sample, ganzoo.evaluate])
def test_the_device_of_a_call_is_that_of_its_argument(run: ganzoo.TrainedRun, call: Callable[..., Any]) -> None:
    for given in (run, run.path):
        with pytest.raises(ganzoo.GanzooError, match="--device cuda"):
            call(given, device="cuda:99")
    assert run.device == "auto"


def test_a_folder_of_data_is_used_for_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    before = os.environ["GANZOO_DATA"]
    (tmp_path / "data").mkdir()
    with pytest.raises(ganzoo.GanzooError, match=str(tmp_path / "data")):
        ganzoo.train("mlp-vanilla", "mnist", data_dir=tmp_path / "data", out=tmp_path / "run", quiet=True)
    assert os.environ["GANZOO_DATA"] == before
