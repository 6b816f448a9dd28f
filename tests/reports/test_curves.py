"""Curves over several runs: groups and their names, means and bands, and figures that are the same bytes twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ganzoo

import ganzoo as api
from ganzoo import Choice, GanzooError, Recipe, UsageError
from ganzoo.reports.curves import RunLines, curves_of, find_runs, grouped, moving_mean, quantities, read_runs
from ganzoo.reports.figures import Look, draw

CARD = {"digest": "a", "measure": {"fakes": 1000}}


def lines(seed: int, values: list[float], **fields: Any) -> RunLines:
    """A run with these generator losses, and half of them as scores."""
    recipe = Recipe(architecture=Choice("dcgan"), dataset=Choice("mnist"), seed=seed).merged(fields)
    stats = [{"images": 10 * n, "epoch": n / 2, "step": n, "generator_loss": v} for n, v in enumerate(values)]
    scores = [
        {"images": 10 * n, "score": "fid", "value": v / 2, "better": "lower", "training": True, "card": CARD}
        for n, v in enumerate(values)
    ]
    return RunLines(f"run-{seed}", recipe, stats, scores)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three runs: two seeds of one recipe, and another architecture."""
    out = tmp_path_factory.mktemp("grid")
    for name, seed in (("mlp-vanilla", 0), ("mlp-vanilla", 1), ("mlp-keras-gan", 0)):
        arguments = ["--steps", "4", "--batch-size", "8", "--tick-every", "1", "--seed", str(seed), "-q"]
        scores = ["-e", "sliced-wasserstein", "--samples", "16", "--score-every", "2"]
        run = out / "runs" / f"{name}-{seed}"
        result = ganzoo("train", name, "digits:size=8", *arguments, *scores, "--out", run)
        assert result.exit_code == 0, result.output
    return out


# --- data ---


def test_seeds_are_a_mean_and_a_band():
    runs = [lines(0, [1, 2, 3]), lines(1, [3, 4, 5]), lines(2, [5, 9])]
    (loss,) = curves_of(runs, ["generator_loss"])
    assert (loss.x, loss.runs, loss.label) == ([0, 10, 20], 3, "")
    assert loss.mean == [3, 5, 4]  # at the last place there are two runs only
    assert (loss.low, loss.high) == ([1, 2, 3], [5, 9, 5])
    (score,) = curves_of(runs, scores=["fid"])
    assert (score.mean[0], score.better, score.low[0]) == (1.5, "lower", 0.5)
    (deviation,) = curves_of(runs, ["generator_loss"], band="std")
    assert (deviation.low[0], deviation.high[0]) == (1, 5)
    (epochs,) = curves_of(runs, ["generator_loss"], axis="epochs")
    assert epochs.x == [0, 0.5, 1]


def test_runs_with_points_at_other_places_are_interpolated():
    other = lines(1, [0, 10])
    other = RunLines(other.name, other.recipe, [{**line, "images": line["images"] * 2} for line in other.stats])
    (curve,) = curves_of([lines(0, [0, 0, 0]), other], ["generator_loss"])
    assert curve.x == [0, 10, 20]
    assert curve.high == [0, 5, 10]


def test_a_group_is_named_by_what_tells_it_from_others():
    runs = [lines(0, [1]), lines(1, [1])]
    assert [label for label, _ in grouped(runs)] == [""]
    names = [label for label, _ in grouped([*runs, lines(0, [1], architecture=Choice("cgan"))])]
    assert names == ["dcgan", "cgan"]
    names = [label for label, _ in grouped([*runs, lines(0, [1], dataset=Choice("digits"))])]
    assert names == ["dcgan, mnist", "dcgan, digits"]
    names = [label for label, _ in grouped([*runs, lines(0, [1], dataset=Choice("mnist", {"size": 32}))])]
    assert names == ["dcgan, mnist", "dcgan, mnist:size=32"]
    names = [label for label, _ in grouped([*runs, lines(0, [1], batch_size=7)])]
    assert names[1] == "dcgan, batch size 7"


def test_scores_that_were_measured_otherwise_are_curves_of_their_own():
    run = lines(0, [1, 2])
    card = {"digest": "b", "measure": {"fakes": 50}}
    later = {"images": 10, "score": "fid", "value": 7.0, "better": "lower", "training": False, "card": card}
    first, second = curves_of([RunLines("a", run.recipe, run.stats, [*run.scores, later])], scores=["fid"])
    assert (first.label, second.label) == ("1,000 fakes", "50 fakes")
    assert (first.afterwards, second.afterwards, second.x) == ([], [(10, 7.0)], [])


def test_a_moving_mean_keeps_the_ends():
    assert moving_mean([1, 2, 6, 7], 1) == [1, 2, 6, 7]
    assert moving_mean([1, 2, 6, 7], 3) == [1, 3, 5, 7]
    assert moving_mean([1, 2, 6, 7], 99) == [1, 3, 5, 7]
    (curve,) = curves_of([lines(0, [1, 2, 6, 7])], ["generator_loss"], smooth=3)
    assert (curve.mean, curve.raw) == ([1, 3, 5, 7], [1, 2, 6, 7])


def test_runs_are_found_in_folders_and_by_patterns(folder, tmp_path):
    names = ["mlp-keras-gan-0", "mlp-vanilla-0", "mlp-vanilla-1"]
    assert [path.name for path in find_runs([folder])] == names
    assert [path.name for path in find_runs([folder / "runs", folder / "runs" / names[0]])] == names
    assert [path.name for path in find_runs([f"{folder}/runs/mlp-v*"])] == names[1:]
    for nothing in (tmp_path, tmp_path / "no*", "nowhere"):
        with pytest.raises(UsageError, match="there is no run"):
            find_runs([nothing])


# --- figures ---


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_same_runs_give_the_same_bytes(folder, tmp_path, suffix, theme):
    files = [tmp_path / f"{n}{suffix}" for n in range(2)]
    for file in files:
        result = ganzoo("plot", folder, "--theme", theme, "--log", "--title", "Three runs", "-o", file)
        assert result.exit_code == 0, result.output
        assert result.stdout.strip() == str(file)
    data = files[0].read_bytes()
    assert data == files[1].read_bytes()
    assert data[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    assert len(data) > 5000


def test_panels_and_legends(folder):
    plot = api.plot(folder)
    titles = [axes.get_title(loc="left") for axes in plot.axes]
    assert titles == ["discriminator loss", "generator loss", "sliced-wasserstein (lower is better)"]
    for axes in plot.axes:
        assert axes.get_legend_handles_labels()[1] == ["mlp-keras-gan", "mlp-vanilla, 2 seeds"]
        assert len(axes.collections) == 1  # the band of the two seeds
    one = api.plot(api.load(folder / "runs" / "mlp-vanilla-0"), score="sliced-wasserstein", axis="steps")
    (axes,) = one.axes
    assert list(axes.lines[0].get_xdata()) == [2, 4]
    (losses, _) = api.plot(folder / "runs" / "mlp-vanilla-0").axes
    assert [line.get_label() for line in losses.lines] == ["discriminator", "generator"]


def test_a_panel_with_negative_values_stays_linear(capsys):
    notes: list[str] = []
    plot = draw([("loss", curves_of([lines(0, [-1, 2])], ["generator_loss"]))], look=Look(log=True), note=notes.append)
    assert plot.axes[0].get_yscale() == "linear"
    assert "stays linear" in notes[0]
    plot = draw([("loss", curves_of([lines(0, [1, 2])], ["generator_loss"]))], look=Look(log=True))
    assert plot.axes[0].get_yscale() == "log"


def test_a_plot_needs_no_pyplot(folder, tmp_path):
    code = (
        "import sys, ganzoo; ganzoo.plot(sys.argv[1]).save(sys.argv[2]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, folder, tmp_path / "a.svg"], check=True, timeout=300)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--score", "slice-wasserstein"], "the score 'slice-wasserstein'. Did you mean 'sliced-wasserstein'"),
        (["--stat", "loss"], "There are: discriminator_loss, generator_loss"),
        (["-o", "a.jpg"], "must end in .png, .svg or .pdf"),
        (["-o", "nowhere/a.png"], "there is no directory"),
        (["--smooth", "0"], "at least 1"),
        (["--axis", "hours"], "images"),
    ],
)
def test_a_wrong_request_is_refused(folder, tmp_path, monkeypatch, more, words):
    monkeypatch.chdir(tmp_path)
    result = ganzoo("plot", folder, *more)
    assert result.exit_code == 2
    assert words in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_lines_has_nothing_to_plot(folder, tmp_path):
    shutil.copytree(folder / "runs" / "mlp-vanilla-0", tmp_path / "a")
    for name in ("stats.jsonl", "scores.jsonl"):
        (tmp_path / "a" / name).unlink()
    with pytest.raises(GanzooError, match="nothing to plot yet"):
        api.plot(tmp_path / "a")
    with pytest.raises(UsageError, match="at least one run"):
        api.plot()
    assert quantities(read_runs([folder / "runs" / "mlp-vanilla-0"]))[:2] == ["discriminator_loss", "generator_loss"]


def test_the_plot_of_a_benchmark_on_the_command_line(folder, tmp_path):
    result = ganzoo("plot", folder, "--score", "sliced-wasserstein", "-o", tmp_path / "a.png", "--json")
    assert json.loads(result.stdout)["path"] == str(tmp_path / "a.png")
