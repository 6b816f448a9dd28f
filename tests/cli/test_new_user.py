"""What a newcomer meets: a training that was stopped, names that are nearly right, scores that take a while."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path

import click
import pytest
from helpers import ganzoo

from ganzoo import load
from ganzoo.api.progress import Waiting
from ganzoo.cli import cli
from ganzoo.cli.help import HelpContext, SectionedCommand
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError
from ganzoo.engine.device import find_device
from ganzoo.registry.zoo import zoo
from ganzoo.reports.collect import collect
from ganzoo.results.evaluate import evaluate
from ganzoo.results.runs import run_facts
from ganzoo.training.signals import Signals

TRAIN = ("train", "mlp-vanilla", "digits:size=8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/mlp-vanilla-digits, which Ctrl-C stopped after 33 of 3,000 steps, before its first tick."""
    folder = tmp_path_factory.mktemp("walk")
    looks = iter(range(34))

    def received(self: Signals, max_over_ranks: object) -> bool:
        self.number = 0 if next(looks, None) not in (33, None) else signal.SIGINT
        return bool(self.number)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Signals, "received_on_any_rank", received)
        done = ganzoo(*TRAIN, "--steps", 3000, "-q")
    assert done.exit_code == 130, done.output
    assert done.output.startswith("Stopped by Ctrl-C after step 33; everything is saved. Continue with: ganzoo resume")
    return folder


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working folder."""
    shutil.copytree(folder, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def test_a_stopped_run_is_as_far_as_it_was_saved(here: Path) -> None:
    run = Path("runs/mlp-vanilla-digits")
    assert not (run / "stats.jsonl").exists()
    facts = run_facts(run)
    assert (facts["state"], facts["step"]) == ("interrupted", 33)
    assert facts["epoch"] == pytest.approx(facts["images"] / 1498, abs=0.01)
    assert facts["share"] == 33 / 3000
    assert "33 of 3000 steps" in ganzoo("runs").output
    assert load(run).progress.step == 33
    assert "33 of 3000 steps" in repr(load(run))
    (record,), _, _ = collect([run])
    assert (record.step, record.state) == (33, "unfinished")


def test_a_second_training_beside_a_stopped_one_says_so(here: Path) -> None:
    done = ganzoo(*TRAIN, "--steps", 2)
    assert done.exit_code == 0
    assert (
        "runs/mlp-vanilla-digits was stopped at step 33: `ganzoo resume runs/mlp-vanilla-digits` goes on with it. This "
        "is a new run, runs/mlp-vanilla-digits-2.\n"
    ) in done.output
    shutil.rmtree("runs/mlp-vanilla-digits")
    assert "was stopped" not in ganzoo(*TRAIN, "--steps", 2).output
    assert "was stopped" not in ganzoo(*TRAIN, "--steps", 2).output  # beside finished ones


def test_a_run_that_is_nearly_named(here: Path) -> None:
    for command in ("sample", "resume", "evaluate"):
        for wrong in ("run/mlp-vanilla-digits", "mlp-vanilla-digits", "runs/mlp-vanila-digits"):
            done = ganzoo(command, wrong)
            assert done.exit_code == 2
            assert "Did you mean 'runs/mlp-vanilla-digits'?" in done.output.replace("\n", " "), done.output
    assert "holds no run: there is no such folder." in ganzoo("sample", "run/x").output
    done = ganzoo("sample", "runs")
    assert "runs holds no run: it is a folder of runs. Name one of them: runs/mlp-vanilla-digits" in done.output
    shutil.copytree("runs/mlp-vanilla-digits", "runs/b")
    assert "Name one of them: runs/b, runs/mlp-vanilla-digits\n" in ganzoo("resume", "runs").output


def test_lengths_that_leave_nothing_to_train(here: Path) -> None:
    for unit in ("epochs", "steps", "images"):
        done = ganzoo(*TRAIN, f"--{unit}", 0)
        assert done.exit_code == 2
        assert f"--{unit} is the length of the training: it must be at least 1, not 0." in done.output
    run = "runs/mlp-vanilla-digits"
    words = "has already trained for 33 steps, more than 10 steps; `ganzoo resume runs/mlp-vanilla-digits` goes on to"
    assert f"{words} its 3000 steps." in ganzoo("resume", run, "--steps", 10).output


def test_an_architecture_and_a_dataset_that_are_swapped() -> None:
    done = ganzoo("train", "mnist:size=32", "dcgan-tutorial")
    assert done.exit_code == 2
    words = "mnist is a dataset and dcgan-tutorial an architecture: swap the two, "
    assert f"{words}`ganzoo train dcgan-tutorial mnist:size=32`." in done.output
    assert "swap" not in ganzoo("train", "mnist", "dcgan-tutoril").output


def test_the_last_score_is_that_of_the_default_evaluator(here: Path) -> None:
    run = "runs/mlp-vanilla-digits"
    scored = ("evaluate", run, "--samples", 20)
    assert ganzoo(*scored, "-e", "precision-recall:neighbours=3").exit_code == 0
    facts = run_facts(Path(run))["score"]
    assert facts["score"] == "precision"  # the first of that scoring
    assert ganzoo(*scored, "-e", "fid-domain", "-e", "precision-recall:neighbours=3").exit_code == 0
    assert ganzoo(*scored, "-e", "precision-recall:neighbours=3").exit_code == 0
    assert run_facts(Path(run))["score"]["score"] == "fid-domain"
    assert re.search(r"fid-domain \d", ganzoo("runs").output)


def test_every_option_is_in_a_section_that_was_chosen_for_it() -> None:
    context = HelpContext(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if isinstance(command, SectionedCommand):
            chosen = {word for words in command.sections.values() for word in words}
            options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
            left_over = [each.opts for each in options if not chosen & set(each.opts)]
            assert left_over == [], name
    train = cli.get_command(context, "train")
    assert isinstance(train, SectionedCommand)
    early = next(each for each in train.params if "--early-stop" in each.opts)
    assert train.section_of(early) == "Scores during the training"


def test_an_evaluation_names_what_it_does(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))  # no statistics of the real images yet
    seen: list[tuple[int, int, str]] = []
    run = Path("runs/mlp-vanilla-digits")
    evaluate(run, zoo(), find_device("cpu"), samples=100, on_progress=lambda *state: seen.append(state))
    phases = list(dict.fromkeys(doing for _, _, doing in seen))
    assert phases == [
        "reading the real images, loading the extractors",
        "features of the real images",
        "drawing fakes and their features",
        "distances between real images and fakes",
    ]
    assert [state[:2] for state in seen if "fakes and" in state[2]][-1] == (100, 100)
    totals = {total for _, total, doing in seen if doing == "features of the real images"}
    assert totals == {1498}, "digits has so many training images"


def test_no_time_is_left_only_where_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.api.progress._FIRST_LINE", 0.05)
    for state, words in (
        ((0, 0, "distances"), "Scoring a, distances: 0:00"),
        ((100, 100, "fakes"), "Scoring a, fakes: 0:00, 100 of 100 images"),
        ((999, 1000, "fakes"), "Scoring a, fakes: 0:00, 999 of 1,000 images, about 0:01 left"),
    ):
        lines: list[str] = []
        with Waiting("Scoring a", lines.append) as waiting:
            waiting(*state)
            time.sleep(0.3)
        assert lines == [words]


def test_absent_weights_are_found_before_anything_is_drawn(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*arguments: object) -> None:
        pytest.fail("fakes were drawn")

    monkeypatch.setattr("ganzoo.evaluation.fakes.draw", draw)
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    seen: list[str] = []
    with pytest.raises(GanzooError, match="inception"):
        evaluate(
            Path("runs/mlp-vanilla-digits"),
            zoo(),
            find_device("cpu"),
            [Choice("fid-domain"), Choice("fid")],
            on_progress=lambda done, total, doing: seen.append(doing),
        )
    assert set(seen) == {"reading the real images, loading the extractors"}


def test_a_short_training_prints_its_losses_with_its_sample_pictures(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganzoo.api.displays._MEANS_INTERVAL", 0.0)
    done = ganzoo(*TRAIN, "--steps", 9, "--samples-every", "2 steps", "--out", "short")
    lines = re.findall(r"short: step (\d+)  D \d\.\d+  G \d\.\d+ ", done.output)
    assert lines == ["2", "4", "6", "8"]
    stats = Path("short/stats.jsonl").read_text().splitlines()
    assert len(stats) == 1  # the last one: files are as they were
